"""Share the work on one folder among machines: who makes which items, what each has written, whether all is done.

Shard I of N makes each N-th item, from the I-th on. It keeps what it writes for itself in `.shards/I-of-N`, so that no
file is written by two shards. Whichever shard ends last does what depends on the whole set. No machine has to know of
another one: two that take the same shard write the same files, each of them whole.
"""
import collections
import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import re
import shutil

import utils
from utils import UserError

FOLDER = ".shards"                  # in an output folder
FINISH = "finish"                   # instead of a shard: do what is left when all shards have ended
WORK = "work.json"                  # what a shard was told to do
FILES = "files.csv"                 # what a shard wrote, once all of it is there
MANIFEST = "manifest.csv"           # what all shards wrote
FIELDS = "file", "sha256", "shard"
EVERYBODY = "all"                   # the shard of files that depend on the whole set
NAMED = 10                          # shards that a message names


class Work:
    """The part of the work on an output folder that a process does."""

    def __init__(self, shard=None):
        """Take `shard`: (I, N), the word FINISH, or None for all of the work."""
        self.finishes = shard == FINISH         # makes no item, but what is left when all shards have ended
        self.in_shards = bool(shard)
        self._number, self._count = (1, 1) if self.finishes or not shard else shard
        self.share = f"{self._number}-{self._count}" if shard and not self.finishes else None   # of the folder's lock
        self._mark = None

    def __str__(self):
        return f"--shard {FINISH}" if self.finishes else f"--shard {self._number}/{self._count}"

    def of(self, items):
        """Choose from the list or range `items`, which all shards number alike."""
        return [] if self.finishes else items[self._number - 1::self._count]

    # Files that a shard keeps for itself

    def path(self, folder, name):
        """Return the path of the file that this process writes for what a whole run writes as `name` in `folder`."""
        return os.path.join(_place(folder, self._number, self._count) if self.share else folder, name)

    def paths(self, folder, name):
        """List the paths of all files `name` that are there: of a whole run, then of shards, the last written last."""
        found = [os.path.join(place, name) for place in _places(folder).values()]
        found = sorted((os.stat(path).st_mtime_ns, path) for path in found if os.path.isfile(path))
        whole = os.path.join(folder, name)
        return [whole] * os.path.exists(whole) + [path for _, path in found]

    # The course of the work

    def check_there(self, folder, option="--output"):
        """Raise UserError where nothing is there to finish. Nothing is created."""
        if self.finishes and not _marks_in(folder):
            raise UserError(f"{self}: {option} {folder} has no shards; run --shard 1/N to N/N first")

    def check(self, folder, items, settings):
        """Compare this work with that of other shards in `folder`, if it is there -> what to note of it, {word: value}.

        `items` are a list or range, and `settings` what all that is made shares. Raises UserError where other shards
        there have other items or settings, or another number of shards, and where a shard is missing that FINISH needs.
        A work whose shards are all done may be followed by another one.
        """
        marks = _marks_in(folder)
        mark = {"items": len(items), "names": _digest(items), "settings": _digest(settings.items())}
        if self.finishes:
            self.check_there(folder)
            begun = collections.Counter(count for (_, count), there in marks.items() if there == mark)
            if not begun:
                raise UserError(f"{self}: {folder}: {_difference(mark, 0, marks)}")
            lacking = {count: _lacking(folder, mark, count) for count in begun}
            self._count = max(begun, key=lambda count: (not lacking[count], begun[count]))
            if lacking[self._count]:
                missing = _listed(lacking[self._count], self._count, " is not done or has lost files; run it",
                                  " are not done or have lost files; run them")
                raise UserError(f"{self}: {folder}: {missing}, then this command again")
        elif self.share:
            others = {shard: there for shard, there in marks.items() if shard != (self._number, self._count)}
            alike = any(shard[1] == self._count and there == mark for shard, there in others.items())
            if others and not alike and not _is_complete(folder, marks):
                raise UserError(f"{self}: {folder}: {_difference(mark, self._count, others)}")
        return mark

    def begin(self, folder, items, settings):
        """Note in `folder`, which is held, that the work is begun. Raises UserError as `check` does."""
        if not self.in_shards:
            return
        self._mark = self.check(folder, items, settings)
        noted = self.share and utils.load_json(self.path(folder, WORK), None)
        if self.share and noted != self._mark:
            os.makedirs(self.path(folder, ""), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path(folder, FILES))
            utils.save_json(self._mark, self.path(folder, WORK))

    def end(self, folder, names, finish=lambda: ()):
        """Note that the files `names` in `folder` are written, and call `finish` if that is the end of all shards.

        `finish()` writes what depends on the whole set, and returns the names of its files. Of a work that is not
        shared, this is the end too.
        """
        if not self.in_shards:
            finish()
            if os.path.isdir(os.path.join(folder, FOLDER)):         # all that the shards knew is in the folder's files
                shutil.rmtree(os.path.join(folder, FOLDER))
            return
        if self.share:
            rows = [(name, utils.sha256_of(os.path.join(folder, name)), f"{self._number}/{self._count}")
                    for name in names]
            _write_rows(self.path(folder, FILES), rows)
        lacking = _lacking(folder, self._mark, self._count)
        if lacking:
            logging.info("%s: %s is done; %s to come; the last one to end, or --shard %s, does the rest", folder, self,
                         _listed(lacking, self._count, " is", " are"), FINISH)
            return
        made = [(name, utils.sha256_of(os.path.join(folder, name)), EVERYBODY) for name in finish()]
        rows = [row for number in range(1, self._count + 1)
                for row in _read_rows(_place(folder, number, self._count))]
        _write_rows(os.path.join(folder, FOLDER, MANIFEST), sorted(rows + made))
        for parent, _, _ in os.walk(folder):
            utils.clean_temporary(parent, alone=False)
        logging.info("%s: all %d shards are done; %s", folder, self._count, os.path.join(FOLDER, MANIFEST))


ALL = Work()                        # of a process that does the whole work


def _place(folder, number, count):
    """Return the folder of what shard `number` of `count` keeps for itself."""
    return os.path.join(folder, FOLDER, f"{number}-of-{count}")


def _places(folder):
    """Find the folders of the shards in an output folder -> {(I, N): path}."""
    inside = os.path.join(folder, FOLDER)
    found = [re.fullmatch(r"(\d{1,7})-of-(\d{1,7})", name) for name in
             (os.listdir(inside) if os.path.isdir(inside) else [])]
    return {(int(match[1]), int(match[2])): os.path.join(inside, match[0]) for match in found if match}


def _marks_in(folder):
    """Read what the shards in an output folder were told to do -> {(I, N): mark}."""
    marks = {shard: utils.load_json(os.path.join(place, WORK), None) for shard, place in _places(folder).items()}
    return {shard: mark for shard, mark in sorted(marks.items()) if isinstance(mark, dict)}


def _lacking(folder, mark, count):
    """List the numbers of the shards of `count` that have not ended; if all have, of those that have lost files."""
    marks, numbers = _marks_in(folder), range(1, count + 1)
    undone = [number for number in numbers if marks.get((number, count)) != mark
              or not os.path.exists(os.path.join(_place(folder, number, count), FILES))]
    return undone or [number for number in numbers if not all(
        os.path.exists(os.path.join(folder, name)) for name, *_ in _read_rows(_place(folder, number, count)))]


def _is_complete(folder, marks):
    """Tell whether all shards of one work are done, of those with `marks`."""
    works = {(count, json.dumps(mark, sort_keys=True)): mark for (_, count), mark in marks.items()}
    return any(not _lacking(folder, mark, count) for (count, _), mark in works.items())


def _difference(mark, count, others):
    """Say what another shard was told to do otherwise than this one, with `mark` and `count` of shards; 0: any."""
    (number, its_count), other = next(iter(others.items()))
    shard = f"shard {number}/{its_count} there"
    if count and its_count != count:
        return (f"begun in {its_count} shards, not {count}; give one of 1/{its_count} to {its_count}/{its_count}, or "
                "leave --shard out to do the rest here")
    if other.get("items") != mark["items"]:
        return f"{shard} shares {other.get('items')} items and not {mark['items']}; give all shards the same"
    what = "other files or numbers" if other.get("names") != mark["names"] else "other settings"
    return f"{shard} was begun with {what}; give all shards the same"


def _listed(numbers, count, one, many):
    """Name the shards `numbers` of `count`, and say `one` or `many` of them."""
    more = f" and {len(numbers) - NAMED} others" if len(numbers) > NAMED else ""
    names = ", ".join(f"{number}/{count}" for number in numbers[:NAMED])
    return f"shard{'s' * (len(numbers) > 1)} {names}{more}{one if len(numbers) == 1 else many}"


def _digest(values):
    """Digest what shards have to have in common -> 32 hexadecimal digits."""
    if isinstance(values, range):
        return str(values)
    total = hashlib.blake2b(digest_size=16)
    for value in values:
        total.update(json.dumps(value).encode() + b"\n")
    return total.hexdigest()


def _write_rows(path, rows):
    """Write `rows` of FIELDS as the table `path`, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([FIELDS, *rows])
    with utils.atomic_write(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def _read_rows(place):
    """Read what the shard with the folder `place` wrote -> rows of FIELDS. Raises UserError where it can't be read."""
    path = os.path.join(place, FILES)
    try:
        heading, *rows = [*csv.reader(io.StringIO(utils.read_text(path, "surrogateescape"), newline=""))] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: can't be read ({utils.reason_of(error)}); {utils.RESTORE}") from error
    if tuple(heading) != FIELDS or any(len(row) != len(FIELDS) for row in rows):
        raise UserError(f"{path}: no table of a shard; {utils.RESTORE}")
    return [tuple(row) for row in rows]


