"""Tell into how many equal shares a step's batch is divided, and which of them this process computes. No TensorFlow."""
from typing import NamedTuple


class Replicas(NamedTuple):
    """The shares of a step's batch: each is computed by one GPU of one worker."""
    total: int                      # of all workers together
    first: int                      # number, from 0, of the first share that this process computes
    here: int                       # shares that this process computes, one on each of its GPUs

    def part(self, size):
        """Tell which images of a step's whole batch are ours, with `size` in a share -> (the first one, how many)."""
        return self.first * size, self.here * size


def replicas_of(options):
    """Read the Replicas from the resolved options of a training."""
    workers = options.cluster.count(",") + 1 if options.cluster else 1
    return Replicas(workers * options.num_gpu, (options.worker or 0) * options.num_gpu, options.num_gpu)
