"""How long a classifier is trained and how fast it learns: FaceNet's file of a schedule, epochs and their steps."""
from engine.cluster.replicas import replicas_of
from utils import read_text, UserError

DROP = .1           # factor of the learning rate at each of --learning_rate_drops


def read_schedule(file_name):
    """Read a schedule in FaceNet's format -> [(epoch, rate)], epochs ascending from 1.

    What follows the first rate of 0 or less, which ends the training, is not read. Raises UserError, which names the
    line, for any other file.
    """
    option = f"--learning_rate_schedule_file {file_name}"
    table, row = [], 1
    try:
        for line in read_text(file_name).splitlines():
            entry = line.split("#")[0].strip()
            if entry and (not table or table[-1][1] > 0):
                epoch, rate = entry.split(":")
                table.append((int(epoch), float(rate)))
                if not -1 <= table[-1][1] < float("inf") or table[-1][0] < 1 or sorted(table)[-1] != table[-1]:
                    raise ValueError("epochs must ascend from 1, and rates be numbers")
            row += 1
    except OSError as error:
        raise UserError(f"{option}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{option}: line {row}: not `EPOCH: RATE` ({error})") from error
    if not table or table[0][1] <= 0:
        raise UserError(f"{option}: no learning rate in it; give lines `EPOCH: RATE`")
    return table


def table_of(options):
    """Make the schedule of `recognizer.py train` from its options -> [(epoch, rate)], as `read_schedule` does.

    Raises UserError as `read_schedule` does.
    """
    if options.learning_rate == -1:
        return read_schedule(options.learning_rate_schedule_file)
    return [(0, options.learning_rate)] + [(epochs + 1, options.learning_rate * DROP ** count)
                                           for count, epochs in enumerate(options.learning_rate_drops, 1)]


def length_of(options, faces, table):
    """Compute how long `recognizer.py train` takes for labelled_data.Faces -> (epochs, steps in an epoch).

    `table` is what `table_of` returns: a rate of 0 or less ends the training.
    """
    images = len((faces.real or faces.synthetic).names)
    step = options.batch_size * replicas_of(options).total
    epoch_size = options.epoch_size or -(-images // step)
    return min([options.max_nrof_epochs] + [epoch - 1 for epoch, rate in table if rate <= 0]), epoch_size
