"""The operations of a graph by which workers add up what they computed, all in one fixed order."""
import tensorflow as tf

from utils import SIGNALS

tf1 = tf.compat.v1

COMPARING, TRAINING = 1, 2          # keys of the groups of devices, and of the graphs; 0 stands for none


class Exchange:
    """The collective operations of one graph. Every worker builds the same ones, and runs them in the same order.

    In a training of one process, nothing is added to the graph, and each method returns what it is given.
    """

    def __init__(self, cluster, hint="ring", key=TRAINING):
        """Take an `addresses.Cluster`, None for one process alone. `hint` says how sums are made: ring or nccl."""
        self._cluster, self.hint, self._key = cluster, hint, key
        self._instances, self._last = 0, []
        self.votes = self.counts = None     # of workers that are asked to stop, by signal; see `means`

    def sum(self, tensor):
        """Add up the `tensor` of each worker, float32 or int32 of one shape."""
        if not self._cluster:
            return tensor
        self._instances += 1
        with tf.control_dependencies(self._last):       # two at a time may meet in another order elsewhere
            total = tf.raw_ops.CollectiveReduce(
                input=tensor, group_size=len(self._cluster.workers), group_key=self._key,
                instance_key=self._instances, merge_op="Add", final_op="Id", subdiv_offsets=[0],
                communication_hint=self.hint)
        self._last = [total]
        return total

    def gather(self, *tensors):
        """Join `tensors` [B] or [B, n] of all workers, in the order of their numbers -> list of [workers * B, ...].

        They are float32, or whole numbers below 2^24. No gradient flows back. Each worker puts its rows into a matrix
        of zeros, and the matrices are added up, which is exact.
        """
        if not self._cluster:
            return list(tensors)
        with tf1.name_scope("gather"):
            columns = [tf.cast(tensor if tensor.shape.rank == 2 else tensor[:, None], tf.float32) for tensor in tensors]
            rows = tf.concat(columns, 1)
            before = self._cluster.index
            after = len(self._cluster.workers) - 1 - before
            blocks = tf.zeros_like(rows)
            whole = tf.stop_gradient(self.sum(tf.concat([blocks] * before + [rows] + [blocks] * after, 0)))
            parts = tf.split(whole, [column.shape[1] for column in columns], 1)
            return [tf.cast(part if tensor.shape.rank == 2 else part[:, 0], tensor.dtype)
                    for part, tensor in zip(parts, tensors)]

    def means(self, tensors):
        """Average each of `tensors`, float32, over the workers -> list. All of them travel as one vector.

        With them travels how many workers were asked to stop: `votes` [2] is to be fed 1 for each of SIGNALS that this
        worker got, and `counts` [2] are the sums.
        """
        if not self._cluster:
            return list(tensors)
        with tf1.name_scope("exchange"):
            self.votes = tf1.placeholder(tf.float32, [len(SIGNALS)], "votes")
            tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
            sizes = [tensor.shape.num_elements() for tensor in tensors]
            flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors] + [self.votes], 0)
            *totals, self.counts = tf.split(self.sum(flat), [*sizes, len(SIGNALS)])
            return [tf.reshape(total / len(self._cluster.workers), tensor.shape)
                    for total, tensor in zip(totals, tensors)]
