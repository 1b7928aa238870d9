"""What is exported: the images of a data set in their order, their bytes, and what is known of each."""
import hashlib
import logging
import os

import numpy as np
from PIL import Image

from datasets import crop_kinds, scores
from datasets.image_sets import LABELS
from datasets.images import DECODERS, suffix
from datasets.packed.opening import open_image, stat_of
from utils import open_regular, reason_of, UserError

_POSE = "pitch", "yaw", "roll"                      # radians, the first three numbers of Pose_Para
_PERSON = "age", "female", "hair", "beard", "glasses"
# How the files of a format begin, its suffix, and its name in a TFRecord.
_BEGINNINGS = ((b"\xff\xd8", ".jpg", "jpeg"), (b"\x89PNG", ".png", "png"), (b"GIF8", ".gif", "gif"),
               (b"BM", ".bmp", "bmp"), (b"II*\0", ".tif", "tiff"), (b"MM\0*", ".tif", "tiff"),
               (b"P5", ".pgm", "ppm"), (b"P6", ".ppm", "ppm"), (b"\0\0\0\x0cjP", ".jp2", "jp2"))


def kind_of(content, name):
    """Tell the kind of an encoded image by how it begins, else by its `name` -> (suffix, word)."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp", "webp"
    return next(((ending, word) for beginning, ending, word in _BEGINNINGS if content.startswith(beginning)),
                (suffix(name), suffix(name)[1:]))


class Source:
    """The images of Renderings, number by number from 0, as an export reads them."""

    def __init__(self, renderings):
        """Read the scores, where there are any, and which labels there are. Raises UserError for damaged scores."""
        self.names, self.labels, self.identities = renderings.names, renderings.labels.tolist(), renderings.identities
        self._root, self.packed = renderings.root, os.path.isfile(renderings.root)
        path = os.path.join(self._root, scores.CSV_NAME)
        self._scores = scores.read_scores(self._root, "move it away to go without") if os.path.isfile(path) else {}
        self._of_identity = None, {}                # the identity whose labels were read last, and these
        self.columns = [*self._label_columns(), *(scores.NAMES if self._scores else ())]

    def _label_columns(self):
        """List the labels that the first identity with any has."""
        for identity in self.identities:
            found = self._labels_in(identity)
            if found:
                there = next(iter(found.values()))
                return [name for name in (*_POSE, *_PERSON) if name in there]
        return []

    @property
    def template(self):
        """Tell how the images were cut, one of crop_kinds.KINDS."""
        return crop_kinds.kind_of(self._root)

    @property
    def count(self):
        """Count the images."""
        return len(self.names)

    def path_of(self, index):
        """Return the path of image `index`, which may be packed in a file."""
        return os.path.join(self._root, self.names[index])

    def content(self, index):
        """Read the encoded image `index` -> bytes. Raises UserError where it can't be read."""
        try:
            with open_image(self.path_of(index)) as file:
                content = file.read()
        except OSError as error:
            raise UserError(f"{self.path_of(index)}: can't be read ({reason_of(error)}); mend it, and run the same "
                            "command again") from error
        if not content:
            raise UserError(f"{self.path_of(index)}: an empty file; mend it, and run the same command again")
        return content

    def identity(self, index):
        """Return the name of the identity of image `index`."""
        return self.identities[self.labels[index]]

    def file_name(self, index, content):
        """Return the path `IDENTITY/IMAGE.jpg` that image `index` gets in a folder.

        A packed image has no suffix of its own: it gets the one of its `content`, bytes. Else these do not count.
        """
        name = self.names[index]
        return os.path.splitext(name)[0] + kind_of(content, name)[0] if self.packed else name

    def size(self):
        """Tell height and width in pixels of the first image. Raises UserError where it can't be decoded."""
        try:
            with open_image(self.path_of(0)) as file, Image.open(file, formats=DECODERS) as picture:
                return picture.height, picture.width
        except Exception as error:          # Pillow raises nearly anything
            raise UserError(f"{self.path_of(0)}: can't be decoded ({reason_of(error)}); replace it") from error

    def facts(self, index):
        """Collect what is known of image `index` -> {column: number or word}. What is not known is left out."""
        name, identity = self.names[index], self.identity(index)
        if self._of_identity[0] != identity:
            self._of_identity = identity, self._labels_in(identity)
        stem = os.path.splitext(os.path.basename(name))[0]
        found = dict(self._of_identity[1].get(stem, {}))
        of_image = self._scores.get(os.path.abspath(self.path_of(index)), ())
        found.update({column: value for column, value in zip(scores.NAMES, of_image) if np.isfinite(value)})
        return {column: found[column] for column in self.columns if column in found}

    def _labels_in(self, identity):
        """Read the labels beside the images of an identity -> {name of an image without suffix: {column: value}}.

        They are empty where there are none. A damaged file is named in a warning.
        """
        path = os.path.join(self._root, identity, LABELS)
        if self.packed or not os.path.lexists(path):
            return {}
        try:
            open_regular(path).close()
            with np.load(path, allow_pickle=False) as file:
                names = [os.path.splitext(name)[0] for name in file["names"].tolist()]
                columns = dict(zip(_POSE, np.asarray(file["Pose_Para"], float).reshape(len(names), -1).T[:3].tolist()))
                for column in _PERSON:
                    if column in file:
                        columns[column] = np.broadcast_to(file[column], len(names)).tolist()
        except Exception as error:          # NumPy raises nearly anything for a damaged file
            logging.warning("%s: labels that can't be read (%s), left out", path, reason_of(error))
            return {}
        return {name: {column: values[place] if isinstance(values[place], str) else round(values[place], 6)
                       for column, values in columns.items()} for place, name in enumerate(names)}

    def fingerprint(self):
        """Compute a fingerprint of which images, labels and scores these are, by names, sizes and times -> a word.

        Raises UserError where a file is gone.
        """
        total = hashlib.sha256()
        files = [os.path.join(self._root, scores.CSV_NAME)]
        files += [] if self.packed else [os.path.join(self._root, identity, LABELS) for identity in self.identities]
        states = {file: os.stat(file) for file in files if os.path.isfile(file)}
        try:
            for index, label in enumerate(self.labels):
                states[index] = None if self.packed else stat_of(self.path_of(index))
                total.update(os.fsencode(f"{self.names[index]}\0{label}\0"))
            states[self._root] = stat_of(self._root) if self.packed else None
        except OSError as error:
            raise UserError(f"{self._root}: an image is gone while it is looked at ({error.strerror}); run the same "
                            "command again") from error
        for name in self.identities:
            total.update(os.fsencode(name) + b"\0")
        for state in states.values():
            total.update(f"{state.st_size}@{state.st_mtime_ns} ".encode() if state else b"")
        return total.hexdigest()[:16]
