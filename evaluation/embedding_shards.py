"""Share the embedding of a judgement's images among machines: each shard has a cache of its own, merged in the end.

SQLite files must not be written by two machines, so the name of a shard's cache tells its machine. All lie beside the
cache that they are merged into. A shard that was computed twice changes nothing.
"""
import contextlib
import hashlib
import os
import re
import socket
import sqlite3

from datasets.shards import FINISH
from evaluation.embedding_cache import TABLE
from utils import one_line, reason_of, UserError

JOURNAL = "DELETE"              # of SQLite, where files may lie on a network drive; its usual one needs shared memory
_DONE = "CREATE TABLE IF NOT EXISTS done (work TEXT PRIMARY KEY)"


def path_for(cache, shard):
    """Name the cache of a `shard`, (I, N), on this machine, beside the file `cache`."""
    root, ending = os.path.splitext(cache)
    host = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:64]
    return "{}-{}-of-{}-{}{}".format(root, *shard, host, ending)


def _paths(cache):
    """Find the caches of shards beside the file `cache` -> {(I, N): list of paths, one for each machine}."""
    folder, name = os.path.split(os.path.abspath(cache))
    root, ending = os.path.splitext(name)
    pattern, found = re.compile(rf"{re.escape(root)}-(\d+)-of-(\d+)-\w*{re.escape(ending)}"), {}
    for each in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        match = pattern.fullmatch(each)
        if match:
            found.setdefault((int(match[1]), int(match[2])), []).append(os.path.join(folder, each))
    return found


def work_of(sets, weights):
    """Digest what shards have to have in common: the images of `sets`, Renderings, and the SHA-256 of the `weights`."""
    total = hashlib.blake2b(weights.encode(), digest_size=16)
    for each in sets:
        total.update(b"\n")
        for name in each.names:
            total.update(os.fsencode(name) + b"\0")
    return total.hexdigest()


def note_done(path, work):
    """Note in a shard's cache that all of its part of a `work` is in it. Raises UserError where that can't be kept."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(_DONE)
            database.execute("INSERT OR IGNORE INTO done VALUES (?)", [work])
    except sqlite3.Error as error:
        raise UserError(f"{path}: the embeddings of this shard can't be kept ({one_line(str(error))}); name another "
                        "--cache") from error


def _works_in(path):
    """Read which works a shard's cache has its part of -> set; empty where it can't be read."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            return {work for work, in database.execute("SELECT work FROM done")}
    except sqlite3.Error:
        return set()


def merge(cache, work):
    """Copy what the shards of a `work` have computed into the file `cache`.

    Raises UserError where no shard of it is there, where one is missing, and where a file can't be read or written.
    """
    found = _paths(cache)
    done = {shard for shard, paths in found.items() if any(work in _works_in(path) for path in paths)}
    counts = {count for _, count in done}
    if not counts:
        others = f" ({len(found)} are there of other images or weights)" if found else ""
        raise UserError(f"--shard {FINISH}: no shard of these sets is done beside --cache {cache}{others}; run --shard "
                        "1/N to N/N first")
    count = min(counts, key=lambda count: count - sum(shard[1] == count for shard in done))
    missing = [f"{number}/{count}" for number in range(1, count + 1) if (number, count) not in done]
    if missing:
        more = f" and {len(missing) - 10} others" if len(missing) > 10 else ""
        raise UserError(f"--shard {FINISH}: shard {', '.join(missing[:10])}{more} not done beside --cache {cache}; run "
                        "what is missing, then this command again")
    for path in [path for shard in sorted(done) if shard[1] == count for path in found[shard]]:
        try:
            with contextlib.closing(sqlite3.connect(cache)) as database:
                database.execute(TABLE)
                database.execute("ATTACH ? AS part", [path])
                with database:
                    database.execute("INSERT OR IGNORE INTO embeddings SELECT * FROM part.embeddings")
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{path}: can't be merged into --cache {cache} ({reason_of(error)}); run this shard again"
                            ) from error
