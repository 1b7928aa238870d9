"""Find sets of images in folders, and check them: photos, renderings of identities, and pairs of both."""
import concurrent.futures
import logging
import os
from typing import NamedTuple

import numpy as np

from datasets.images import BrokenImage, READ_FORMATS, read_picture, stem, suffix
from datasets.packed import records
from datasets.side_files import ALIGNMENT, FITTING, INDEX, LABELS, MANIFEST, PEOPLE, SCORES
from utils import SETTINGS, UserError

# Files that lie beside images on purpose: nobody has to be told of them.
OURS = {LABELS, SETTINGS, ALIGNMENT, FITTING, SCORES, PEOPLE, INDEX, MANIFEST}
OUR_ENDINGS = ".mat", ".damaged"


class ImageSet(NamedTuple):
    """Images by name: the file of `names[i]` is `<root>/<names[i]>`.

    The root may be a .rec file. Then the images are packed in it, and `packed.opening` opens them by these paths.
    """
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


class Listing(NamedTuple):
    """The names of what lies directly in a folder, without hidden files. Links are followed."""
    images: list                    # in natural order
    folders: list                   # in natural order
    others: list                    # files of other kinds, pipes and the like
    astray: list                    # links that lead nowhere, or back to a folder that they lie in
    linked: set                     # those of all these names that are links


def look(folder, above=()):
    """List what lies directly in `folder` -> Listing. Raises UserError when it can't be listed.

    `above` are the real paths of `folder` and of the folders through which it was reached: a link to one of them, or to
    one that holds them, leads in a circle. No file is looked at but by its kind, which most file systems list.
    """
    found = Listing([], [], [], [], set())
    for entry in scan(folder):
        if entry.is_symlink():
            found.linked.add(entry.name)
        try:
            if entry.is_dir():
                above = above or (os.path.realpath(folder),)
                circle = entry.name in found.linked and _leads_back(os.path.realpath(entry.path), above)
                kind = found.astray if circle else found.folders
            elif entry.is_file():
                kind = found.images if suffix(entry.name) in READ_FORMATS else found.others
            else:
                kind = found.astray if entry.name in found.linked else found.others
        except OSError:                     # a link to itself
            kind = found.astray
        kind.append(entry.name)
    for names in found[:4]:
        names.sort(key=_natural_order)
    return found


def _leads_back(target, above):
    """Tell whether the folder `target` is one of the folders `above` or holds one; all are real paths."""
    return any(os.path.commonpath([target, each]) == target for each in above)


def walk(folder, levels=None, once=False):
    """Iterate over `folder` and the folders in it, `levels` deep or all -> (path within `folder`, Listing, level).

    The path of `folder` itself is "". Links are followed, but never in a circle. With `once`, a folder that has two
    names is read under the first one alone. Raises UserError when a folder can't be listed.
    """
    pending, seen = [("", (os.path.realpath(folder),))], set()
    while pending:
        inside, above = pending.pop()
        if once and above[-1] in seen:
            continue
        seen.add(above[-1])
        found = look(os.path.join(folder, inside) if inside else folder, above)
        yield inside, found, len(above) - 1
        if levels is None or len(above) <= levels:
            pending += [(os.path.join(inside, name), (*above, os.path.realpath(os.path.join(above[-1], name))
                                                      if name in found.linked else os.path.join(above[-1], name)))
                        for name in reversed(found.folders)]


class Skipped:
    """What the search for images in a folder passes over, to be told in a line for each kind."""

    KINDS = ("files of other kinds", "links that lead nowhere or in a circle",
             "folders deeper than images are read", "images outside the folders of identities")

    def __init__(self, root):
        """Begin with nothing in the folder `root`."""
        self._root, self._names = root, {kind: [] for kind in self.KINDS}

    def note(self, inside, found, folders=(), images=()):
        """Note the other files and the links astray of a Listing, and `folders` and `images` of it that are not read.

        `inside` is the path of the Listing's folder within the root. Files that commands write are not noted.
        """
        others = [name for name in found.others if not (name in OURS or name.endswith(OUR_ENDINGS))]
        for kind, names in zip(self.KINDS, (others, found.astray, folders, images)):
            self._names[kind] += [os.path.join(inside, name) for name in names]

    def warn(self):
        """Warn of all that was noted."""
        for kind, names in self._names.items():
            warn_of(self._root, kind, names)


def list_folders(folder):
    """List the names of the folders in `folder`, or of the identities in its .rec file, in natural order.

    Raises UserError when it can't be listed.
    """
    packed = records.find(folder)
    return sorted(records.list_images(packed).names.values(), key=_natural_order) if packed else look(folder).folders


def list_images(folder, warn=False):
    """List the names of the images directly in `folder`, in natural order. Raises UserError when it can't be listed.

    With `warn`, what else lies there is told in warnings.
    """
    found = look(folder)
    if warn:
        skipped = Skipped(folder)
        skipped.note("", found, found.folders)
        skipped.warn()
    return found.images


def data_folder(option, data_dir, name, split=""):
    """Find the folder of a data set: `<data_dir>/<name>`, or its sub-folder `split` when there is one.

    An absolute `name` stands for itself. Of a data set in a .rec file, the path of that file is returned; `name` may
    also be a folder that it lies in.
    Raises UserError, which begins with `option`, such as "--dataset", when there is no such folder or file.
    """
    folder = os.path.join(data_dir, name)
    packed = records.find(os.path.join(folder, split)) or records.find(folder)
    if packed:
        return packed
    if not os.path.isdir(folder):
        raise UserError(f"{option}: no folder {folder}; check {option}{' and --data_dir' if data_dir else ''}")
    inside = os.path.join(folder, split)
    return inside if split and os.path.isdir(inside) else folder


def find_photos(folder, recursive=False, loose=""):
    """Find the images in `folder` and in its sub-folders -> ImageSet. Raises UserError when there are none.

    With `recursive`, folders of any depth are read, and else one level of them. What is passed over is told in
    warnings. Where `folder` is a .rec file or holds one, its images are found; with `loose`, the option that names the
    folder, UserError is raised: photos have to be files there.
    """
    packed = records.find(folder)
    if packed and loose:
        raise UserError(f"{loose} {folder}: a .rec file is there, and photos in files of their own are needed; unpack "
                        "it first (evaluate.py export --to folder)")
    if packed:
        return ImageSet(packed, _find_packed(folder, packed).names)
    names, skipped = [], Skipped(folder)
    for inside, found, level in walk(folder, None if recursive else 1):
        names += [os.path.join(inside, name) for name in found.images]
        skipped.note(inside, found, [] if recursive or not level else found.folders)
    skipped.warn()
    if not names:
        raise UserError(f"{folder}: no images in it or its sub-folders; put {', '.join(READ_FORMATS)} files there")
    return ImageSet(folder, names)


def find_renderings(folder):
    """Find the renderings `<folder>/IDENTITY/IMAGE.jpg` -> Renderings.

    Warns of identities without images, and of all else that is passed over. Raises UserError when no identity is left.
    Where `folder` is a .rec file or holds one, its images are found: `<file>.rec/IDENTITY/NUMBER.jpg`, whatever the
    format of the image.
    """
    packed = records.find(folder)
    if packed:
        return _find_packed(folder, packed)
    images, skipped = {}, Skipped(folder)
    for inside, found, level in walk(folder, 1):
        if level:
            images[inside] = found.images
            skipped.note(inside, found, found.folders)
        else:
            skipped.note("", found, images=found.images)
    skipped.warn()
    warn_of(folder, "identities without images", [identity for identity in images if not images[identity]])
    identities = [identity for identity in images if images[identity]]
    if not identities:
        raise UserError(f"{folder}: no identities; images are read from {folder}/IDENTITY/IMAGE.jpg")
    names = [f"{identity}/{name}" for identity in identities for name in images[identity]]
    labels = np.repeat(np.arange(len(identities), dtype=np.int32), [len(images[identity]) for identity in identities])
    return Renderings(folder, names, labels, identities)


def _find_packed(folder, path):
    """Find the images in the .rec file `path` -> Renderings. Warns of what else is in `folder`, if it lies there."""
    if path != folder:
        beside = look(folder)
        warn_of(folder, f"images and folders beside {os.path.basename(path)}", beside.images + beside.folders)
    found = records.list_images(path)
    used = sorted(found.names, key=lambda label: _natural_order(found.names[label]))
    rank = np.zeros(max(used) + 1, np.int32)
    rank[used] = np.arange(len(used))
    labels, identities = rank[found.labels], [found.names[label] for label in used]
    place = np.argsort(labels, kind="stable")
    names = [records.name_of(identities[label], number)
             for label, number in zip(labels[place].tolist(), found.numbers[place].tolist())]
    return Renderings(path, names, labels[place], identities)


def find_pairs(folder):
    """Find the photos `<folder>/NAME.jpg` with a rendering `<folder>/3dmm/NAME.jpg` -> Pairs.

    The two suffixes may differ. Warns of images without partner and of all else that is passed over. Raises UserError
    when there is no pair.
    """
    inside, skipped, here = os.path.join(folder, "3dmm"), Skipped(folder), look(folder)
    skipped.note("", here, [name for name in here.folders if name != "3dmm"])
    there = look(inside) if "3dmm" in here.folders else Listing([], [], [], [], set())
    skipped.note("3dmm", there, there.folders)
    skipped.warn()
    photos, renderings = ({stem(name): name for name in found.images} for found in (here, there))
    both = [key for key in photos if key in renderings]
    if not both:
        raise UserError(f"{folder}: no pairs; they are read from {folder}/NAME.jpg with {inside}/NAME.jpg")
    warn_of(folder, "images of the same name as others",
            [name for name in here.images if photos[stem(name)] != name]
            + [f"3dmm/{name}" for name in there.images if renderings[stem(name)] != name])
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


def places_of(names, wanted):
    """Find where each of the names `wanted` stands in the list `names` -> int [n], -1 where it does not."""
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(name, -1) for name in wanted], np.int64)


def columns_for(columns, images, part):
    """Cut columns {name: [n]} of an image set to those of `part`, a subset of its images -> {name: [m]}."""
    places = places_of(images.names, part.names)
    return {name: values[places] for name, values in columns.items()}


def check_images(image_set, size, workers, limit=5000):
    """Decode an ImageSet, Renderings or Pairs with `workers` threads -> the same without broken images.

    Broken images are named in a warning. Of more than `limit` images or pairs, only a random sample of that many is
    decoded, the same each time. Logs whether images are not `size` pixels square and will be resized; of None, nothing.
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
    if size and any(seen != [(size, size)] * len(sets) for index, seen in looks.items() if index not in broken):
        logging.info("%s: images of other sizes are resized to %dx%d", root, size, size)
    return subset(image_set, [index for index in range(count) if index not in broken])
