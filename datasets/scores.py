"""Keep the scores of a synthesized set: store them, write confidence_scores.csv, turn c_scores into weights."""
import contextlib
import csv
import errno
import io
import itertools
import logging
import os
import re
import secrets
import shutil
import tempfile

import numpy as np

import utils
from datasets import shards
from datasets.images import output_name
from datasets.packed import records
from datasets.side_files import INDEX
from datasets.side_files import SCORES as CSV_NAME
from utils import UserError

# A line of it: a name with blanks, quotes or line breaks lies in quotes, in which a quote is doubled.
CSV_LINE = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^"\n][^\n]*?))[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]*\r?(?:\n|$)')
COLUMNS = "d_score", "s_score", "c_score"         # of an image, in an export's table
DAMAGED = ".damaged"                # ends the name of a file that is set aside
SCORES_FOLDER = ".scores"
DIGITS = 8                          # of the number that begins the name of a stored file
FILE = re.compile(r"[0-9]{8}(-[0-9]+-[0-9]+-[0-9a-f]{8})?\.npz")        # the second part names a shard
BLOCK = 1024                        # images whose embeddings are in memory at a time, in the order of the set
ROWS = 64                           # images whose distances to all means are in memory at a time


class ScoreStore:
    """The scores of a data set's images, stored in numbered files in a hidden folder of the set.

    Each image has a d_score, an s_score and, where a classifier was there, an embedding [E].
    """

    def __init__(self, folder, classifier=None, work=shards.ALL):
        """Open the store of the data set in `folder`. Temporary files that a kill left are removed.

        `classifier` is a fingerprint of the network that embeds, a word. Embeddings of another one do not count. All
        shards, by their shards.Work, write into one store, and none replaces what another one wrote.
        """
        self._folder, self._classifier = os.path.join(folder, SCORES_FOLDER), classifier
        self._share = work.share
        if os.path.isdir(self._folder):
            utils.clean_temporary(self._folder, alone=not work.in_shards)
        self._rows = []

    def scored(self, with_embeddings):
        """Find the names of all images with stored scores, or of those that have an embedding too -> set.

        The last scores of an image count.
        """
        last = {}
        for chunk in self.chunks():
            last.update(dict.fromkeys(chunk["names"].tolist(), bool(len(self.embeddings_of(chunk)))))
        return {name for name, embedded in last.items() if embedded or not with_embeddings}

    def embeddings_of(self, chunk):
        """Return the embeddings [n, E] in a chunk, or an empty list where it has none of this classifier.

        Where the store was opened without a classifier, the one that was used last counts.
        """
        if self._classifier is None:
            used = [str(each["classifier"]) for each in self.chunks() if each["embeddings"].size]
            self._classifier = used[-1] if used else ""
        return chunk["embeddings"] if chunk["embeddings"].size and chunk["classifier"] == self._classifier else []

    def add(self, name, d_score, s_score, embedding=()):
        """Add the scores of the image `name`. They are on disk after the next `flush`."""
        self._rows.append((name, d_score, s_score, embedding))

    def flush(self):
        """Write a file of all that was added since the last flush.

        The images themselves have to be on disk before: an image with stored scores is not synthesized again.
        """
        if not self._rows:
            return
        os.makedirs(self._folder, exist_ok=True)
        number = 1 + max([int(os.path.basename(path)[:DIGITS]) for path in self._files()], default=0)
        owner = f"-{self._share}-{secrets.token_hex(4)}" if self._share else ""     # another machine may count alike
        names, d_score, s_score, embeddings = zip(*self._rows)
        with utils.atomic_write(os.path.join(self._folder, f"{number:0{DIGITS}d}{owner}.npz")) as file:
            np.savez(file, names=np.array(names), d_score=np.array(d_score, np.float32),
                     s_score=np.array(s_score, np.float32), embeddings=np.array(embeddings, np.float32),
                     classifier=np.array(self._classifier or ""))
        self._rows = []

    def _files(self):
        """List the paths of the stored files, the oldest first. Files of other names are not ours."""
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        return [os.path.join(self._folder, name) for name in sorted(names) if FILE.fullmatch(name)]

    def chunks(self):
        """Iterate over the stored files, the oldest first, as dicts of arrays.

        They are `names`, `d_score` and `s_score` [n], `embeddings` [n, E], where E is 0 without a classifier, and
        `classifier`, its fingerprint. A damaged file is set aside under another name, with a warning: its images have
        no stored scores then.
        """
        lengths = {}                        # of the embeddings of each classifier
        for path in self._files():
            try:
                chunk = _read_chunk(path)
                length = chunk["embeddings"].shape[1]
                if length and lengths.setdefault(str(chunk["classifier"]), length) != length:
                    raise ValueError("embeddings of another length than those of the same classifier")
            except FileNotFoundError:           # set aside by another iteration
                continue
            except MemoryError:
                raise
            except Exception as error:      # NumPy raises nearly anything for a damaged file
                if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR, errno.EINVAL, errno.ELOOP):
                    raise UserError(f"{path}: can't be read ({error.strerror}); {utils.RESTORE}") from error
                reason = utils.reason_of(error)
                aside = next(name for name in (f"{path}{DAMAGED}{number or ''}" for number in itertools.count())
                             if not os.path.lexists(name))
                logging.warning("%s: damaged (%s); set aside as %s, and its images are scored again", path, reason,
                                os.path.basename(aside))
                with contextlib.suppress(FileNotFoundError):        # another shard set it aside
                    os.rename(path, aside)
            else:
                yield chunk


def _read_chunk(path):
    """Read a file of a ScoreStore -> {name: array}. Raises ValueError, or what NumPy raises, for any other file."""
    with utils.open_regular(path) as file:
        if file.read(2) != b"PK":           # NumPy would advise to trust it
            raise ValueError("no .npz file")
    with np.load(path, allow_pickle=False) as file:
        chunk = {name: file[name] for name in ("names", "d_score", "s_score", "embeddings")}
        chunk["classifier"] = file["classifier"] if "classifier" in file else np.array("")
    names, embeddings = chunk["names"], chunk["embeddings"]
    if names.ndim != 1 or {names.dtype.kind, chunk["classifier"].dtype.kind} != {"U"} or embeddings.ndim != 2:
        raise ValueError("no names or embeddings of images in it")
    for name in ("d_score", "s_score", "embeddings"):
        if chunk[name].dtype.kind != "f" or len(chunk[name]) != len(names) or not np.isfinite(chunk[name]).all():
            raise ValueError(f"{name} is not a finite number for each image")
    if chunk["d_score"].ndim != 1 or chunk["s_score"].ndim != 1:
        raise ValueError("more than one score for an image")
    return chunk


def check_places(folder):
    """Raise UserError where something else in the data set `folder` has the name of the scores, stored or as a file."""
    for name, expected, is_right in ((SCORES_FOLDER, "folder", os.path.isdir), (CSV_NAME, "file", os.path.isfile)):
        path = os.path.join(folder, name)
        if os.path.lexists(path) and not is_right(path):
            raise UserError(f"{path}: must be a {expected}; move it away")


def clear(folder):
    """Remove the stored scores of the data set in `folder`, and their file."""
    path = os.path.join(folder, SCORES_FOLDER)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, CSV_NAME))


def write_scores(folder, names, labels, store):
    """Write `<folder>/confidence_scores.csv`, a line for each image of a data set.

    A line is `/identity/image.jpg d_score s_score c_score`. `names` [N] are the data set's images and `labels` [N] the
    numbers of their identities, from 0. `store` is their ScoreStore. An image without stored scores gets no line. Of an
    image that was scored twice, the last scores count. The c_score is the magnet loss with the means and the variance
    of the whole set, nan where there is no embedding. Returns the names of images with scores but without a c_score.
    """
    position = {name: i for i, name in enumerate(names)}
    d_score, s_score = (np.full(len(names), np.nan, np.float32) for _ in range(2))
    chunk_of = np.full(len(names), -1)                      # number of the chunk with the last scores of each image
    for number, chunk in enumerate(store.chunks()):
        for row, name in enumerate(chunk["names"].tolist()):
            i = position.get(name)
            if i is not None:
                d_score[i], s_score[i], chunk_of[i] = chunk["d_score"][row], chunk["s_score"][row], number

    with _sorted_embeddings(folder, store, position, chunk_of) as embeddings:
        c_score = magnet_scores(embeddings, np.asarray(labels))
    with utils.atomic_write(os.path.join(folder, CSV_NAME)) as file:
        for i, name in enumerate(names):
            if chunk_of[i] >= 0:
                line = f"{_quoted('/' + output_name(name))} {d_score[i]:.6f} {s_score[i]:.6f} {c_score[i]:.6f}\n"
                file.write(line.encode(errors="surrogateescape"))
    return [name for i, name in enumerate(names) if chunk_of[i] >= 0 and np.isnan(c_score[i])]


@contextlib.contextmanager
def _sorted_embeddings(folder, store, position, chunk_of):
    """Make the function that iterates over the embeddings in a ScoreStore in the order of the set, BLOCK at a time.

    `position` is {name of an image: its number}, and `chunk_of` [N] the number of the chunk with an image's scores. So
    sums over the set have the same bits however the work was interrupted or shared. The embeddings lie in a file
    without a name in `folder`, as those of a large set don't fit into memory.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        size, present = 0, np.zeros(len(chunk_of), bool)
        for number, chunk in enumerate(store.chunks()):
            values = store.embeddings_of(chunk)
            for row, name in enumerate(chunk["names"].tolist() if len(values) else ()):
                i = position.get(name)
                if i is not None and chunk_of[i] == number:
                    size, present[i] = values[row].nbytes, True
                    os.pwrite(file.fileno(), values[row].tobytes(), i * size)
        indices = np.flatnonzero(present)

        def embeddings():
            for first in range(0, len(indices), BLOCK):
                some = indices[first:first + BLOCK]
                rows = [os.pread(file.fileno(), size, int(i) * size) for i in some]
                yield some, np.frombuffer(b"".join(rows), np.float32).reshape(len(some), -1)

        yield embeddings


def _quoted(name):
    """Write a name as CSV does between blanks: in quotes where it holds what could be taken for another column."""
    return '"' + name.replace('"', '""') + '"' if re.search(r'[\s"]', name) else name


def magnet_scores(embeddings, labels):
    """Compute `losses.magnet_loss` of each image of a set, with the whole set's means and variance.
    Returns float32 [N], nan for an image without an embedding. `labels` [N] are the numbers of the images' identities.
    `embeddings()` iterates over the set in chunks: indices [n] of images, and their embeddings [n, E].
    The embeddings of a large set don't fit into memory. So they are read three times: for each identity's mean, for the
    variance around these means, and for the loss.
    """
    scores = np.full(len(labels), np.nan, np.float32)
    sums, counts = 0, np.zeros(labels.max() + 1 if len(labels) else 0)
    for indices, values in embeddings():
        if np.ndim(sums) == 0:
            sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, labels[indices], values)
        np.add.at(counts, labels[indices], 1)
    if not counts.sum():
        return scores
    present = np.flatnonzero(counts)                        # identities with an embedding
    means = sums[present] / counts[present, None]
    own_mean = np.searchsorted(present, labels)             # row of `means` for each image
    spread = sum(np.square(values - means[own_mean[indices]]).sum() for indices, values in embeddings())
    weight = -0.5 * np.square((counts.sum() - 1) / max(spread, 1e-8))           # -1 / (2 variance^2)
    for indices, values in embeddings():
        for first in range(0, len(indices), ROWS):
            some, own = indices[first:first + ROWS], own_mean[indices[first:first + ROWS]]
            embedded = values[first:first + ROWS].astype(np.float64)
            squared = np.square(embedded).sum(1)[:, None] - 2 * embedded @ means.T + np.square(means).sum(1)
            near = np.exp(weight * np.maximum(squared, 0))                      # [n, identities]
            near[np.arange(len(own)), own] = 0                                  # only the others' means push away
            numerator = np.exp(weight * np.square(embedded - means[own]).sum(1) - 1)
            denominator = near.sum(1)
            scores[some] = np.maximum(0, -np.log(numerator / (denominator + 1e-8) + 1e-8))
    return scores


def score_weights(faces, folders, rule):
    """Compute a weight for each image of the Renderings `faces` from its c_score -> float32 [n].

    A c_score is low for a good image. The scores are those of each of `folders`, as `read_scores` reads them. The
    `rule` is one of these:
    - "none": the weight is 1.
    - "original": it is 0.5 exp(-c_score / 4), as in the authors' first version.
    - "calibrated": it is 2 (1 - u), where u is the share of the set with a lower c_score, equal ones counted half. So
      weights go from 2 for the best image to 0 for the worst and are 1 on average, whatever the scale of the scores.

    Raises UserError where an image has no c_score and the rule needs it.
    """
    if rule == "none":
        return np.ones(len(faces.names), np.float32)
    found = {}
    for folder in folders:
        found.update(_read_scores(folder))
    scores = np.array([found.get(os.path.abspath(os.path.join(faces.root, name)), np.nan) for name in faces.names])
    lacking = np.flatnonzero(~np.isfinite(scores))
    if len(lacking):
        raise UserError(f"--score_weights {rule}: {len(lacking)} of {len(scores)} images have no c_score, such as "
                        f"{faces.names[lacking[0]]}; synthesize with --pretrained_rec, or take --score_weights none")
    if rule == "original":
        return (.5 * np.exp(-scores / 4)).astype(np.float32)
    ordered = np.sort(scores)
    below, up_to = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    return (2 - (below + up_to) / len(scores)).astype(np.float32)


def renamed(folder, names):
    """Write the lines of `<folder>/confidence_scores.csv` under other `names`, {name there: new name} -> bytes.

    Lines of images that are not among `names` are left out. None where there is no such file. Raises UserError where it
    can't be read.
    """
    path = os.path.join(folder, CSV_NAME)
    if not os.path.lexists(path):
        return None
    try:
        lines = [(name.lstrip("/"), values) for name, values in _lines_of(path)]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no scores can be read in it ({utils.reason_of(error)}); {utils.RESTORE}") from error
    return "".join(f"{_quoted('/' + names[name])} {' '.join(values)}\n" for name, values in lines
                   if name in names).encode(errors="surrogateescape")


def _lines_of(path):
    """Read the file of scores at `path` -> list of (name, (d_score, s_score, c_score)), all words.

    Raises ValueError for another kind of line, and OSError.
    """
    found, position = [], 0
    content = utils.read_text(path, "surrogateescape").strip()
    while position < len(content):
        line = CSV_LINE.match(content, position)
        if not line:
            raise ValueError("another kind of line")
        quoted, plain, *values = line.groups()
        found.append((plain if quoted is None else quoted.replace('""', '"'), values))
        position = line.end()
    return found


def _read_scores(folder):
    """Read the scores of a set -> {absolute path: c_score}. Raises UserError where they can't be read."""
    return {path: numbers[-1] for path, numbers in read_scores(folder).items()}


def are_known(folder):
    """Tell whether there are scores of the set in `folder`, or .rec file, for `read_scores`, even if damaged ones.

    A table of an export, or of others, that has no columns of scores tells none.
    """
    if os.path.lexists(os.path.join(folder, CSV_NAME)):
        return True
    index = os.path.join(os.path.dirname(folder) if os.path.isfile(folder) else folder, INDEX)
    try:
        return set(COLUMNS) <= set(_table_of(index).fieldnames or ())
    except (OSError, csv.Error):
        return False


def _table_of(path):
    """Open the table `path` of an export -> csv.DictReader. Raises OSError."""
    return csv.DictReader(io.StringIO(utils.read_text(path, "surrogateescape"), newline=""))


def read_columns(images, way):
    """Read the scores of the images of Renderings -> {one of COLUMNS: float64 [n]}, nan where one is not known.

    Raises UserError where they can't be read; `way` says how to go on without.
    """
    known = read_scores(images.root, way)
    rows = [known.get(os.path.abspath(os.path.join(images.root, name)), (np.nan,) * 3) for name in images.names]
    return dict(zip(COLUMNS, np.array(rows, np.float64).reshape(-1, 3).T))


def read_scores(folder, way="take --score_weights none"):
    """Read the scores of the set in `folder`, which may be a .rec file -> {absolute path: (d_score, s_score, c_score)}.

    They stand in `<folder>/confidence_scores.csv`. Of an exported set, they stand in its index.csv, beside a .rec file.
    Raises UserError where they can't be read; `way` says how to go on without.
    """
    path, index = os.path.join(folder, CSV_NAME), os.path.join(folder, INDEX)
    if os.path.isfile(folder):
        return _scores_in_index(os.path.join(os.path.dirname(folder), INDEX), folder, way)
    if os.path.isfile(index) and not os.path.lexists(path):
        return _scores_in_index(index, folder, way)
    try:
        return {os.path.abspath(folder + name): tuple(map(float, numbers)) for name, numbers in _lines_of(path)}
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); give a set that main.py synthesized, or "
                        f"{way}") from error
    except ValueError as error:
        raise UserError(f"{path}: not lines of `/identity/image.jpg d_score s_score c_score`; synthesize the set "
                        f"again, or {way}") from error


def _scores_in_index(path, root, way):
    """Read the scores in the table `path` of an export, whose images are in `root`, as `read_scores` does.

    Of an image without a score, it is nan.
    """
    try:
        table = _table_of(path)
        if not set(COLUMNS) <= set(table.fieldnames or ()):
            raise UserError(f"{path}: no scores in it; export a set that main.py synthesized, or {way}")
        packed, found = "record" in table.fieldnames, {}
        for row in table:
            name = records.name_of(row["identity"], int(row["record"])) if packed else row["path"]
            found[os.path.abspath(os.path.join(root, name))] = tuple(float(row[column] or "nan") for column in COLUMNS)
        return found
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); give a set that main.py synthesized, or "
                        f"{way}") from error
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{path}: no table of evaluate.py export ({utils.reason_of(error)}); export the set again, or "
                        f"{way}") from error
