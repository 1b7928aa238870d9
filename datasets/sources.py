"""Record what the images of a folder were made from, so that a source that is replaced later is noticed."""
import contextlib
import json
import logging
import os
import zlib

import utils
from datasets import shards
from datasets.packed.opening import open_image, stat_of
from utils import Interrupted, read_text, UserError

RECORD = ".sources.jsonl"           # in the folder of the images; hidden, since it is for the next run only
PLANNED = ""                        # the stamp of an image that was begun, and perhaps made


def is_inside(name):
    """Tell whether a relative path leads nowhere but down."""
    return bool(name) and not os.path.isabs(name) and ".." not in name.split("/")


def stamp_of(paths):
    """Write size and time of the files at `paths` as a word. Raises OSError where one is not there."""
    found = [stat_of(path) for path in paths]
    return "+".join(f"{each.st_size}@{each.st_mtime_ns}" for each in found)


def checksum_of(paths):
    """Compute a checksum of the files at `paths` -> 8 hexadecimal digits. Raises OSError."""
    checksum = 0
    for path in paths:
        with open_image(path) as file:
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"


class SourceRecord:
    """The sizes, times and checksums of the files that each image of a folder was made from.

    Every image that was begun in the folder has its name in the record, relative to the folder. The content of a source
    is only read where its size or time has changed, as after a copy.
    """

    CHUNK = 1024                    # images whose sources are written at a time

    def __init__(self, folder, sources_of, path_of=None, work=shards.ALL):
        """Read the record of `folder`. `sources_of(name)` lists the paths that the image `name` is made from.

        `path_of(name)` is the path of the image, by default `name` in `folder`. A shard, by its shards.Work, writes a
        record of its own, and all read all of them. A line that a kill has cut off does not count. Raises UserError
        where the record can't be read.
        """
        self._sources_of, self._path = sources_of, work.path(folder, RECORD)
        self._path_of = path_of or (lambda name: os.path.join(folder, name))
        paths = work.paths(folder, RECORD)
        self._complete = bool(paths)                        # tells of every image that was begun
        self._mended = bool(work.share) or len(paths) < 2   # has no damaged line, and all that shards knew
        self._known, self._planned, self._new = {}, {}, []
        for path in paths:
            self._known.update(self._read(path))

    def _read(self, path):
        """Read a record -> {name: (stamp, checksum)}. What is no line of it is left out, with a warning."""
        try:
            lines = read_text(path, "surrogateescape").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: can't be read ({utils.reason_of(error)}); {utils.RESTORE}") from error
        known, damaged = {}, 0
        for line in lines:
            try:
                name, stamp, checksum = row = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                damaged += 1
                continue
            if all(isinstance(each, str) for each in row) and is_inside(name):
                known[name] = stamp, checksum
            else:
                damaged += 1
        if damaged:
            self._complete, self._mended = False, False
            logging.warning("%s: %d lines are damaged and do not count", path, damaged)
        return known

    @property
    def names(self):
        """List the names of all images in the record."""
        return list(self._known)

    def check_own(self, names, paths_of=None):
        """Raise UserError where one of the images `names` is there and was never begun: it is somebody's.

        `paths_of(name)` lists the paths of its files, by default the one of the image. Where there was no record yet,
        or lines of it are damaged, nothing is known of that.
        """
        for name in names if self._complete else ():
            paths = paths_of(name) if paths_of else [self._path_of(name)]
            there = [path for path in paths if name not in self._known and os.path.lexists(path)]
            if there:
                raise UserError(f"{there[0]}: has the name of an image to make, and this command did not "
                                "make it; move it elsewhere")

    def changed(self, names):
        """Find which of the images `names`, all of which are there, were made from other sources -> set of names.

        An image of which no more is known than its name counts as changed where a source is newer than the image.
        """
        return {name for name in names if self._is_changed(name)}

    def _is_changed(self, name):
        paths, known = self._sources_of(name), self._known.get(name)
        try:
            stamp = self._planned[name] = stamp_of(paths)
            if known in (None, (PLANNED, "")):
                made = os.stat(self._path_of(name)).st_mtime_ns
                if any(os.stat(path).st_mtime_ns > made for path in paths):
                    return True
                self._note(name, stamp, checksum_of(paths))
                return False
            if stamp == known[0]:
                return False
            if checksum_of(paths) != known[1]:
                return True
            self._note(name, stamp, known[1])       # a copy of the same source
        except OSError:                             # whoever reads the source says what is wrong with it
            return True
        return False

    def are_others(self, changed, among):
        """Tell whether most of the images `among`, a set, and three or more, are `changed`.

        Then their sources are another set. Images of which no more is known than their names do not count.
        """
        recorded = {name for name in among if self._known.get(name, (PLANNED, ""))[0]}
        return len(changed & recorded) > max(2, len(recorded) / 2)

    @contextlib.contextmanager
    def of_run(self, names):
        """Record the images `names` as begun and, if this context ends well, those that were added in it.

        Where it does not, only those that were flushed before are recorded.
        """
        self.plan(names)
        try:
            yield
        except Interrupted:             # in good order: what was added is on disk
            self.flush()
            raise
        except BaseException:
            self._new.clear()           # perhaps their images are not on disk
            raise
        self.flush()

    def plan(self, names):
        """Record the images `names` as begun, on disk too, and note their sources as they are now."""
        for name in names:
            with contextlib.suppress(OSError):
                self._planned[name] = stamp_of(self._sources_of(name))
            if name not in self._known:
                self._note(name, PLANNED, "")
        self.flush()

    def add(self, name):
        """Record an image that was made, or was found to be right. It is on disk after the next `flush`.

        A source that has changed since it was looked at leaves the image as begun only: it is made again.
        """
        paths = self._sources_of(name)
        with contextlib.suppress(OSError):
            checksum, stamp = checksum_of(paths), stamp_of(paths)
            if stamp == self._planned.get(name, stamp):
                self._note(name, stamp, checksum)

    def _note(self, name, stamp, checksum):
        self._known[name] = stamp, checksum
        self._new.append((name, stamp, checksum))

    @property
    def full(self):
        """Tell whether as many images wait for a `flush` as should be written at a time."""
        return len(self._new) >= self.CHUNK

    def flush(self):
        """Append to the record what was added since the last flush. The images themselves have to be on disk before."""
        if not self._mended:
            with utils.atomic_write(self._path) as file:
                file.write("".join(json.dumps([name, *known]) + "\n" for name, known in self._known.items()).encode())
            self._new, self._mended = [], True
        if not self._new:
            return
        lines = "".join(json.dumps(row) + "\n" for row in self._new).encode()      # each of them one line of ASCII
        try:
            with open(self._path, "ab+") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 1, 0))
                torn = b"\n" if size and file.read() != b"\n" else b""      # half a line, which a kill has left
                file.write(torn + lines)
        except OSError as error:
            raise UserError(f"{self._path}: can't be written ({error.strerror}); make room, or name another folder"
                            ) from error
        self._new = []
