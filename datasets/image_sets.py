"""Find sets of images in folders, and check them: photos, renderings of identities, and pairs of both."""
import concurrent.futures
import logging
import os
from typing import NamedTuple

import numpy as np

from datasets.images import BrokenImage, FORMATS, is_marked, read_picture, stem, suffix
from utils import UserError

LABELS = "latents.npz"          # lies beside an identity's images: their shape, expression, light, pose, landmarks


class ImageSet(NamedTuple):
    """Images by name: the file of `names[i]` is `<root>/<names[i]>`."""
    root: str
    names: list

    @property
    def summary(self):
        """Say where the images are, and how many."""
        return f"{self.root}: {len(self.names)} images"


class Renderings(NamedTuple):
    """Images by name as in an ImageSet, and their identities.

    The identity of image i is number `labels[i]`, counted from 0. The name of its folder is `identities[labels[i]]`.
    """
    root: str
    names: list
    labels: np.ndarray              # int32 [n]
    identities: list

    @property
    def summary(self):
        """Say where the images are, how many, and of how many identities."""
        return f"{self.root}: {len(self.names)} images of {len(self.identities)} identities"


class Pairs(NamedTuple):
    """Photos and the renderings of the same faces: two ImageSets of the same length and order."""
    photos: ImageSet
    renderings: ImageSet

    @property
    def summary(self):
        """Say where the pairs are, and how many."""
        return f"{self.photos.root}: {len(self.photos.names)} pairs"


def _natural_order(name):
    """Make the sorting key of a name: numeric names come first, by number, then the others, as text."""
    number = stem(name)
    return (0, int(number), name) if number.isdecimal() else (1, 0, name)


def scan(folder):
    """List the os.DirEntry objects of `folder`, without hidden files. Raises UserError when it can't be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: can't list this folder ({error.strerror}); check the path") from error


def list_folders(folder):
    """List the names of the folders in `folder`, in natural order. Raises UserError when it can't be listed."""
    return sorted((entry.name for entry in scan(folder) if entry.is_dir()), key=_natural_order)


def list_images(folder):
    """List the names of the images directly in `folder`, in natural order. Raises UserError when it can't be listed."""
    return sorted((entry.name for entry in scan(folder) if suffix(entry.name) in FORMATS and entry.is_file()),
                  key=_natural_order)


def data_folder(option, data_dir, name, split=""):
    """Find the folder of a data set: `<data_dir>/<name>`, or its sub-folder `split` when there is one.

    An absolute `name` stands for itself.
    Raises UserError, which begins with `option`, such as "--dataset", when there is no such folder.
    """
    folder = os.path.join(data_dir, name)
    if not os.path.isdir(folder):
        raise UserError(f"{option}: no folder {folder}; check {option}{' and --data_dir' if data_dir else ''}")
    inside = os.path.join(folder, split)
    return inside if split and os.path.isdir(inside) else folder


def check_without_photos(option, folder, ours):
    """Raise UserError where `folder`, which `option` names, is a set of images that we did not begin.

    It is one where an image lies in it, other than our own charts, or where there is one in each of its sub-folders. A
    sub-folder is ours where it has a file of the name `ours`.
    """
    if not os.path.isdir(folder):
        return
    inside = [os.path.join(folder, name) for name in list_folders(folder)]
    people = bool(inside) and all(not os.path.exists(os.path.join(each, ours)) and list_images(each) for each in inside)
    if people or any(not is_marked(os.path.join(folder, name)) for name in list_images(folder)):
        raise UserError(f"{option} {folder}: holds images that this command did not begin; name another folder")


def find_photos(folder):
    """Find the images in `folder` and in its sub-folders -> ImageSet. Raises UserError when there are none."""
    names = list_images(folder)
    for person in list_folders(folder):
        names += [f"{person}/{name}" for name in list_images(os.path.join(folder, person))]
    if not names:
        raise UserError(f"{folder}: no images in it or its sub-folders; put {', '.join(FORMATS)} files there")
    return ImageSet(folder, names)


def find_renderings(folder):
    """Find the renderings `<folder>/IDENTITY/IMAGE.jpg` -> Renderings.

    Warns of identities without images, which are skipped. Raises UserError when no identity is left.
    """
    found = {identity: list_images(os.path.join(folder, identity)) for identity in list_folders(folder)}
    warn_of(folder, "identities without images", [identity for identity in found if not found[identity]])
    identities = [identity for identity in found if found[identity]]
    if not identities:
        raise UserError(f"{folder}: no identities; images are read from {folder}/IDENTITY/IMAGE.jpg")
    names = [f"{identity}/{name}" for identity in identities for name in found[identity]]
    labels = np.repeat(np.arange(len(identities), dtype=np.int32), [len(found[identity]) for identity in identities])
    return Renderings(folder, names, labels, identities)


def find_pairs(folder):
    """Find the photos `<folder>/NAME.jpg` with a rendering `<folder>/3dmm/NAME.jpg` -> Pairs.

    The two suffixes may differ. Warns of images without partner, which are skipped. Raises UserError when there is no
    pair.
    """
    inside = os.path.join(folder, "3dmm")
    photos = {stem(name): name for name in list_images(folder)}
    renderings = {stem(name): name for name in list_images(inside)} if os.path.isdir(inside) else {}
    both = [key for key in photos if key in renderings]
    if not both:
        raise UserError(f"{folder}: no pairs; they are read from {folder}/NAME.jpg with {inside}/NAME.jpg")
    singles = [name for key, name in photos.items() if key not in renderings]
    warn_of(folder, "images without partner",
            singles + [f"3dmm/{name}" for key, name in renderings.items() if key not in photos])
    return Pairs(ImageSet(folder, [photos[key] for key in both]), ImageSet(inside, [renderings[key] for key in both]))


def warn_of(folder, what, names):
    """Warn that `names`, if there are any, are skipped: `what` they are, how many, and the first three."""
    if names:
        more = ", ..." if len(names) > 3 else ""
        logging.warning("%s: %d %s, skipped: %s%s", folder, len(names), what, ", ".join(names[:3]), more)


def subset(image_set, indices):
    """Choose the images of an ImageSet, Renderings or Pairs at `indices` -> the same type.

    Identities of which no image is left are dropped, and the others are numbered anew.
    """
    if isinstance(image_set, Pairs):
        return Pairs(*(subset(images, indices) for images in image_set))
    names = [image_set.names[i] for i in indices]
    if isinstance(image_set, ImageSet):
        return ImageSet(image_set.root, names)
    left, labels = np.unique(image_set.labels[indices], return_inverse=True)
    return Renderings(image_set.root, names, labels.astype(np.int32), [image_set.identities[label] for label in left])


def check_images(image_set, size, workers, limit=5000):
    """Decode an ImageSet, Renderings or Pairs with `workers` threads -> the same without broken images.

    Broken images are named in a warning. Of more than `limit` images or pairs, only a random sample of that many is
    decoded, the same each time. Logs whether images are not `size` pixels square and will be resized.
    Raises UserError when no image can be decoded.
    """
    sets = image_set if isinstance(image_set, Pairs) else [image_set]
    root, count = sets[0].root, len(sets[0].names)
    sample = np.arange(count) if count <= limit else np.random.default_rng(count).choice(count, limit, replace=False)

    def look(index):
        """Decode the images at `index` -> their sizes, or the BrokenImage of one of them."""
        try:
            return [read_picture(os.path.join(images.root, images.names[index])).size for images in sets]
        except BrokenImage as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        looks = dict(zip(sample, pool.map(look, sample)))
    broken = {index: seen for index, seen in sorted(looks.items()) if isinstance(seen, BrokenImage)}
    warn_of(root, "broken images", [str(error) for error in broken.values()])
    if len(broken) == len(looks):
        raise UserError(f"{root}: no image there can be decoded; replace them")
    if any(seen != [(size, size)] * len(sets) for index, seen in looks.items() if index not in broken):
        logging.info("%s: images of other sizes are resized to %dx%d", root, size, size)
    return subset(image_set, [index for index in range(count) if index not in broken])
