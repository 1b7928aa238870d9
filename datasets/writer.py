"""Write the images of a data set with several threads, each whole or not at all; find them; copy their labels."""
import collections
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import utils
from datasets.image_sets import LABELS
from datasets.images import output_name, save_image


class ImageWriter:
    """Threads that save images into a folder. Use as a context, which ends when the last image is on disk.

    `add`, `flush` and the end of the context raise UserError when an image, perhaps an earlier one, can't be written.
    Nothing half-written is left under an image's name.
    """

    QUEUE = 256                     # images that may wait in memory

    def __init__(self, folder, workers):
        """Start `workers` threads that save into `folder`, which may not exist yet."""
        self._folder, self._pool, self.pending = folder, ThreadPoolExecutor(workers), collections.deque()

    def add(self, name, image):
        """Save `image` uint8 [H, W, 3] as `<folder>/<name>`, soon. Waits when too many images are pending.

        Where no image of the suffix can be written, it becomes .png (see `images.output_name`).
        """
        self.pending.append(self._pool.submit(self._save, output_name(name), image))
        while len(self.pending) > self.QUEUE:
            self.pending.popleft().result()

    def _save(self, name, image):
        path = os.path.join(self._folder, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            save_image(image, path)
        except OSError as error:
            raise utils.UserError(f"{path}: can't write the image ({error.strerror or error})") from error

    def flush(self):
        """Wait until all images that were added are on disk."""
        while self.pending:
            self.pending.popleft().result()

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self.flush()


def existing_images(folder, names):
    """Find which of `names` are files in `folder` -> set of names.

    `names` are relative to `folder`, and may have there the suffix that `ImageWriter.add` gives them. Temporary files
    that a kill left beside them are removed.
    """
    found = set()
    for parent in sorted({os.path.dirname(name) for name in names}):
        here = os.path.join(folder, parent)
        if os.path.isdir(here):
            utils.clean_temporary(here)
            found.update(os.path.join(parent, entry) for entry in os.listdir(here))
    return {name for name in names if output_name(name) in found}


def copy_labels(renderings, folder):
    """Copy the file LABELS of each identity of Renderings, where there is one, to its images in `folder`.

    An identity without images in `folder` is left out. Raises OSError when a file can't be read or written.
    """
    for identity in renderings.identities:
        path, to_folder = os.path.join(renderings.root, identity, LABELS), os.path.join(folder, identity)
        if os.path.isfile(path) and os.path.isdir(to_folder):
            with open(path, "rb") as labels, utils.atomic_write(os.path.join(to_folder, LABELS)) as file:
                shutil.copyfileobj(labels, file)
