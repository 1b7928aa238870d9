"""Write the images of a data set with several threads, each whole or not at all; find them; copy their labels."""
import collections
import contextlib
import logging
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import utils
from datasets.images import FORMATS, output_name, save_image, suffix
from datasets.side_files import LABELS


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


def is_whole(path):
    """Tell whether the image file `path` is there, and begins and ends as the format of its suffix asks for.

    The pixels in between are not read. A file of a format that we do not write only has to have some content.
    """
    try:
        with utils.open_regular(path) as file:
            head, size = file.read(12), file.seek(0, os.SEEK_END)
            file.seek(max(size - 12, 0))
            tail = file.read()
    except OSError:
        return False
    return {"JPEG": head.startswith(b"\xff\xd8") and tail.endswith(b"\xff\xd9"),
            "PNG": head.startswith(b"\x89PNG") and tail.endswith(b"IEND\xaeB`\x82"),
            "WEBP": head.startswith(b"RIFF") and size >= int.from_bytes(head[4:8], "little") + 8,
            "BMP": head.startswith(b"BM") and size >= int.from_bytes(head[2:6], "little"),
            }.get(FORMATS.get(suffix(path)), size > 0)


def is_whole_archive(path):
    """Tell whether the .npz file `path` is there, and all that is in it has the right checksums."""
    try:
        with utils.open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return not archive.testzip()
    except utils.ARRAY_ERRORS:
        return False


def existing_images(folder, names, alone=True):
    """Find which of `names` are whole images in `folder` -> set of names.

    `names` are relative to `folder`, and may have there the suffix that `ImageWriter.add` gives them. Temporary files
    that a kill left beside them are removed; unless we are `alone`, only old ones.
    """
    found = set()
    for parent in sorted({os.path.dirname(name) for name in names}):
        here = os.path.join(folder, parent)
        if os.path.isdir(here):
            utils.clean_temporary(here, alone)
            found.update(os.path.join(parent, entry) for entry in os.listdir(here))
    return {name for name in names if output_name(name) in found and is_whole(os.path.join(folder, output_name(name)))}


def clear(folder, names, labels):
    """Remove what was made of the images `names` from `folder`, and with `labels` the file LABELS beside them.

    All else is kept, also what lies behind a link in `folder`. Sub-folders that are empty then are removed too.
    """
    root = os.path.realpath(folder)
    parents = {os.path.dirname(name) for name in names}
    inside = {parent for parent in parents if os.path.realpath(os.path.join(root, parent)) == os.path.normpath(
        os.path.join(root, parent))}
    written = [output_name(name) for name in names if os.path.dirname(name) in inside]
    for name in written + [os.path.join(parent, LABELS) for parent in inside - {""} if labels]:
        path = os.path.join(root, name)
        if os.path.isfile(path) or os.path.islink(path):
            os.remove(path)
    for parent in sorted(inside - {""}, key=len, reverse=True):
        with contextlib.suppress(OSError):          # of others' files in it, or where it is gone
            os.rmdir(os.path.join(root, parent))


def copy_labels(renderings, folder):
    """Copy the file LABELS of each identity of Renderings to its images in `folder`.

    An identity without images in `folder` is left out. A damaged file is not copied, with a warning. Renderings need no
    labels, but where some identities have them, a warning names those that do not. Raises OSError when a file can't be
    read or written.
    """
    paths = {identity: os.path.join(renderings.root, identity, LABELS) for identity in renderings.identities
             if os.path.isdir(os.path.join(folder, identity))}
    lost = [identity for identity, path in paths.items() if not os.path.lexists(path)]
    damaged = [identity for identity in paths.keys() - set(lost) if not is_whole_archive(paths[identity])]
    for identity in sorted(paths.keys() - set(lost) - set(damaged)):
        with open(paths[identity], "rb") as labels, utils.atomic_write(os.path.join(folder, identity, LABELS)) as file:
            shutil.copyfileobj(labels, file)
    if damaged or 0 < len(lost) < len(paths):
        what = [f"{len(some)} identities whose {LABELS} is {how}, such as {min(some)}"
                for some, how in ((damaged, "damaged"), (lost, "lost")) if some]
        logging.warning("%s: %s; their labels in %s stay as they are; render these identities again with the command "
                        "that made them, then synthesize again", renderings.root, " and ".join(what), folder)
