"""Keep embeddings on disk by what they are made of, so that no image is embedded twice by one network.

The key of an embedding is a digest of the image file's bytes and of how the face is placed (evaluation.contents). So a
file that was renamed, moved or copied is found again, and one that has changed is not. SQLite writes whole batches or
nothing: a kill loses the batch under way, and nothing else. Several programs may use one cache.

The points of faces (evaluation.labels.face_points) are kept as if they were embeddings of another network.
"""
import contextlib
import logging
import os
import sqlite3
import sys

import numpy as np

import utils

TABLE = ("CREATE TABLE IF NOT EXISTS embeddings (recipe TEXT, image BLOB, value BLOB, PRIMARY KEY (recipe, image)) "
         "WITHOUT ROWID")
_WAIT = 60              # seconds to wait for another program that writes
_ASKED = 500            # keys in a question; SQLite has a limit


def usual_path():
    """Name the file of the cache where no option does: it lies beside the environment, as the caches of models do."""
    return os.path.join(sys.prefix, "var", "facegan", "embeddings.sqlite3")


class EmbeddingCache:
    """The embeddings of one recipe. Where the file can't be used, a message says so once, and nothing is kept."""

    def __init__(self, path, recipe, journal="WAL"):
        """Open the cache at `path`. `recipe` is a word for the network and its input: another one shares nothing.

        `journal` is SQLite's journal_mode.
        """
        self._recipe, self._path = recipe, path
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            self._database = sqlite3.connect(path, timeout=_WAIT)
            self._database.execute(f"PRAGMA journal_mode = {journal}")
            self._database.execute(TABLE)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def _give_up(self, error):
        """Go on without a cache."""
        self._database = None
        logging.info("%s: embeddings and points of faces can't be kept (%s), and are computed each time", self._path,
                     utils.one_line(str(error)))

    def find(self, keys):
        """Look up the embeddings of images by their `keys` -> {key: float32 [E]} of those that are there.

        A damaged entry is taken as not there, so that it is computed and kept anew.
        """
        found = {}
        if not self._database:
            return found
        try:
            for start in range(0, len(keys), _ASKED):
                some = keys[start:start + _ASKED]
                places = ", ".join("?" * len(some))
                question = f"SELECT image, value FROM embeddings WHERE recipe = ? AND image IN ({places})"
                for key, value in self._database.execute(question, [self._recipe, *some]):
                    vector = _vector(value)
                    if vector is not None:
                        found[key] = vector
        except sqlite3.Error as error:
            self._give_up(error)
        return found

    def fill(self, keys, found):
        """Fill in the rows of `found` [n, E] whose `keys` are kept with E numbers -> the numbers of the other rows."""
        known, others = self.find(keys), []
        for row, key in enumerate(keys):
            if key in known and len(known[key]) == found.shape[1]:
                found[row] = known[key]
            else:
                others.append(row)
        return others

    def keep(self, keys, values):
        """Keep the embeddings `values` [n, E] of images by their `keys`; those that are not finite are left out."""
        if not self._database:
            return
        rows = [(self._recipe, key, np.ascontiguousarray(value, np.float32).tobytes())
                for key, value in zip(keys, values) if np.isfinite(value).all()]
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self):
        """Close the file."""
        if self._database:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()


def _vector(value):
    """Turn an entry of the table into an embedding -> float32 [E]; None where it is none that `keep` has written."""
    if not isinstance(value, bytes) or not value or len(value) % np.float32().itemsize:
        return None
    vector = np.frombuffer(value, np.float32)
    return vector if np.isfinite(vector).all() else None
