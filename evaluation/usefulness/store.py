"""What trainings reached, kept in a file, so that a program that was stopped goes on where it was."""
import math
import os
from typing import NamedTuple

import utils

NAME = "utility.json"


class Verified(NamedTuple):
    """What one training reached."""
    values: dict                    # {key of verified.KEYS: number}; without those that there are too few pairs for
    draws: dict                     # {the same key: list of numbers}, one for each draw of the held-out people


class Store:
    """The results of trainings by key, in the file NAME of a folder. A whole training is there, or nothing of it."""

    def __init__(self, folder):
        """Read what is there. Raises UserError where the file can't be read."""
        self._path = os.path.join(folder, NAME)
        content = utils.load_json(self._path, {"trainings": {}})
        known = content.get("trainings") if isinstance(content, dict) else None
        if not isinstance(known, dict) or not all(map(_is_record, known.values())):
            raise utils.UserError(f"{self._path}: can't be read (no trainings in it); {utils.RESTORE}")
        self._known = known

    def find(self, key):
        """Look up what the training `key` reached -> Verified, a sentence on why it failed, or None."""
        record = self._known.get(key)
        if record is None:
            return None
        if "failed" in record:
            return record["failed"]
        draws = {name: [math.nan if value is None else value for value in values]
                 for name, values in record["draws"].items()}
        return Verified(record["values"], draws)

    def keep(self, key, result, facts):
        """Keep the `result` of a training, a Verified or a sentence on why it failed, with `facts` {name: value}."""
        if isinstance(result, str):
            record = {"failed": result}
        else:
            record = {"values": result.values, "draws": {
                name: [round(value, 6) if math.isfinite(value) else None for value in values]
                for name, values in result.draws.items()}}
        self._known[key] = {**facts, **record}
        os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
        utils.save_json({"trainings": self._known}, self._path)


def _is_record(record):
    """Tell whether `record` is what `Store.keep` wrote of a training."""
    if not isinstance(record, dict) or "failed" in record:
        return isinstance(record, dict) and isinstance(record["failed"], str)
    values, draws = record.get("values"), record.get("draws")
    return isinstance(values, dict) and isinstance(draws, dict) and all(isinstance(each, list)
                                                                        for each in draws.values())
