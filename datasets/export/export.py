"""Export a data set: write it in a format of the field, with a table of its images and checksums of all files.

A killed export goes on where it was: what is whole is kept. The bytes of images are copied as they are.
"""
import contextlib
import os

import utils
from datasets.export.folder import Folder
from datasets.export.record_files import Records
from datasets.export.shards import TFRecord, WebDataset
from datasets.side_files import INDEX, MANIFEST
from utils import load_json, UserError

FORMATS = "rec", "webdataset", "tfrecord", "folder"
VERSION = 1                             # of what is written


def format_of(to, source, shard_size):
    """Return what writes a Source in the format `to`, one of FORMATS. Raises UserError where it can't."""
    if to in ("webdataset", "tfrecord"):
        return {"webdataset": WebDataset, "tfrecord": TFRecord}[to](source, shard_size)
    return {"rec": Records, "folder": Folder}[to](source)


def settings_of(to, source, shard_size):
    """Collect what all files of an export share -> {name: JSON value}."""
    settings = {"command": "evaluate.py export", "version": VERSION, "to": to, "template": source.template,
                "images": source.count, "identities": len(source.identities), "source": source.fingerprint()}
    return settings | ({"shard_size": shard_size} if to in ("webdataset", "tfrecord") else {})


def write(source, written, folder):
    """Write a Source into `folder` by what `format_of` returned: its files, then INDEX, then MANIFEST.

    Files that an earlier run of the same settings left whole are kept. Raises UserError and OSError.
    """
    earlier = load_json(os.path.join(folder, MANIFEST), {})
    lengths = {}
    with contextlib.suppress(AttributeError, TypeError, KeyError):
        lengths = {name: entry["bytes"] for name, entry in earlier["files"].items()}

    def is_whole(name):
        """Tell whether a file is there, with the length that it had when it was written."""
        with contextlib.suppress(OSError):
            length = os.stat(os.path.join(folder, name)).st_size
            return length == lengths.get(name, length)
        return False

    with utils.progress_bar("image", source.count) as bar:
        written.write(folder, is_whole, bar)
    _write_index(source, written, os.path.join(folder, INDEX))
    with utils.progress_bar("file", len(written.files) + 1) as bar:
        entries = {}
        for name in [*written.files, INDEX]:
            entries[name] = _entry(os.path.join(folder, name))
            bar.update()
    utils.save_json({"files": dict(sorted(entries.items()))}, os.path.join(folder, MANIFEST))


def _write_index(source, written, path):
    """Write a table with a line for each image of a Source: where it is, who it is, and what is known of it."""
    with utils.atomic_write(path) as file:
        file.write(utils.csv_bytes([[*written.place(0), "path", "identity", "label", *source.columns]]))
        for index, label in enumerate(source.labels):
            name = written.files[index] if isinstance(written, Folder) else source.names[index]
            facts = source.facts(index)
            file.write(utils.csv_bytes([[*written.place(index).values(), name, source.identity(index), label,
                                         *(facts.get(column, "") for column in source.columns)]]))


def _entry(path):
    """Tell length and sha256 of a file -> a dict that JSON can hold. Raises UserError where it can't be read."""
    try:
        return {"bytes": os.path.getsize(path), "sha256": utils.sha256_of(path)}
    except OSError as error:
        raise UserError(f"{path}: can't be read back ({error.strerror}); run the same command again") from error
