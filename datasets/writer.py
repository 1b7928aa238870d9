"""Write the images of a data set by several threads, each complete or not there; find them; copy their labels."""
import collections
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import utils
from datasets.image_sets import LABELS
from datasets.images import save_image


class ImageWriter:
    """Saves images under `folder` by `workers` threads. Use as a context: leaving it waits for the last image.

    Raises UserError when an image can't be written; nothing half-written is left under its name.
    """

    QUEUE = 256                     # images that may wait in memory

    def __init__(self, folder, workers):
        self.folder, self.pool, self.pending = folder, ThreadPoolExecutor(workers), collections.deque()

    def add(self, name, image):
        """Save `image` uint8 [H, W, 3] as `name`, relative to the folder; waits when too many are pending."""
        self.pending.append(self.pool.submit(self._save, name, image))
        while len(self.pending) > self.QUEUE:
            self.pending.popleft().result()

    def _save(self, name, image):
        path = os.path.join(self.folder, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            save_image(image, path)
        except OSError as error:
            raise utils.UserError(f"{path}: can't write the image ({error.strerror or error})")

    def flush(self):
        """Wait until everything added so far is on disk."""
        while self.pending:
            self.pending.popleft().result()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self.flush()


def existing_images(folder, names):
    """The set of those of `names` (relative to `folder`) that are there; left-over temporary files are removed."""
    found = set()
    for parent in sorted({os.path.dirname(name) for name in names}):
        here = os.path.join(folder, parent)
        if os.path.isdir(here):
            utils.clean_temporary(here)
            found.update(os.path.join(parent, entry) for entry in os.listdir(here))
    return found.intersection(names)


def copy_labels(renderings, folder):
    """Copy the labels beside each identity's renderings, `LABELS` where there is one, to its images in `folder`.

    `renderings` are Renderings. Raises OSError.
    """
    for identity in renderings.identities:
        source = os.path.join(renderings.root, identity, LABELS)
        if os.path.isfile(source):
            with open(source, "rb") as labels, utils.atomic_write(os.path.join(folder, identity, LABELS)) as file:
                shutil.copyfileobj(labels, file)
