"""The option --shard, by which several machines share the work of one command."""
from cli.options import checked

FINISH = "finish"
MOST_SHARDS = 9_999_999


def _parse(word):
    """Convert "2/5" to (2, 5), and keep the word `finish`. Raises ValueError for another form."""
    if word.strip().lower() == FINISH:
        return FINISH
    number, count = word.split("/")
    return int(number), int(count)


shard = checked("I/N", _parse, lambda value: value == FINISH or 1 <= value[0] <= value[1] <= MOST_SHARDS,
                f"I/N with I from 1 to N, such as 2/5, or the word {FINISH}")


def shard_option(add, part):
    """Add --shard. `part` says which part of the work it chooses, such as "render only each N-th identity"."""
    add("shard", shard, None, f"{part}, from the I-th on: for several machines. The last one to end, or --shard "
        f"{FINISH}, does what depends on the whole set", "all")
