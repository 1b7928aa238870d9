"""Join the workers of a training: wait for all, compare what they train, open sessions, stop together, lose nobody."""
import contextlib
import hashlib
import json
import logging
import os
import sys
import threading
import time
import zlib

import numpy as np
import tensorflow as tf

from engine.checkpoints import first_line
from engine.cluster import collectives, liveness
from utils import Interrupted, one_line, SIGNALS, StopRequest, UserError

tf1 = tf.compat.v1

CARD_NUMBERS = 8192             # int32 numbers that hold what a worker says of itself, packed
POLL = .3                       # seconds between two looks whether other workers are there
PATIENCE = 10                   # seconds after which the log says for whom we wait
CPU = "/device:CPU:0"
TOGETHER = "Collective ops is aborted"      # in the message of an operation that failed in one worker, or in another
DIGITS = 16                     # hexadecimal ones of a digest that a message shows


class Alone:
    """The team of a training that one process runs: nothing is exchanged."""

    cluster, leads = None, True

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def exchange(self):
        """Make the `collectives.Exchange` of a graph."""
        return collectives.Exchange(None)

    def open_session(self, graph, settings):
        """Open a session for a tf.Graph with the tf1.ConfigProto `settings`."""
        return tf1.Session(graph=graph, config=settings)

    def stop_request(self):
        """Make the StopRequest in whose context the steps are run."""
        return StopRequest()

    def run_step(self, session, graph, fetches, feed):
        """Run one step of a training; `graph` has its `exchange`."""
        del graph
        return session.run(fetches, feed)

    def keep_in(self, folder):
        """Do nothing: nobody can be lost."""

    def compare_weights(self, session, variables, step):
        """Do nothing: there is nobody to compare with."""


ALONE = Alone()


class SharedStop(StopRequest):
    """A StopRequest of one worker, whose `signal` is None until all workers stop, after the same step.

    `wanted` is the number of the signal that this worker got, None without one. A Team tells the others of it, and sets
    `agreed`.
    """

    agreed = wanted = None

    @property
    def signal(self):
        """Tell the number of the signal after which all workers stop; None before."""
        return self.agreed

    @signal.setter
    def signal(self, number):
        self.wanted = number or self.wanted


class Team:
    """The workers that train together, as one of them sees them. Use as a context, around all that needs the others.

    It does what Alone does, for several workers.

    On entering, it waits for the others, and compares with them what is trained. On leaving in good order, it waits
    until all have come so far: worker 0 saves, and nobody ends before. A worker that is lost ends the others: whatever
    the loss of it leads to becomes a UserError that names it.
    """

    leads = property(lambda self: self.cluster.leads)

    def __init__(self, cluster, settings, hint, card):
        """Describe the team of an `addresses.Cluster`.

        `settings` are the tf1.ConfigProto of all sessions. `hint` is that of a `collectives.Exchange`. `card` {what:
        value} is what has to be the same for all workers, as `compare` takes it.
        """
        self.cluster, self._hint, self._card, self._folder = cluster, hint, {**card, "collectives": hint}, None
        self._job = f"worker_of_{len(cluster.workers)}"         # a worker of another count is known by it
        self._settings = settings
        settings.experimental.collective_group_leader = f"/job:{self._job}/replica:0/task:0"
        settings.experimental.collective_nccl = hint == "nccl"
        settings.device_filters.append(f"/job:{self._job}/task:{cluster.index}")
        self._sessions, self._stop, self._watch, self._leaving = [], None, None, threading.Event()

    def __enter__(self):
        try:
            self._server = tf.distribute.Server(
                tf.train.ClusterSpec({self._job: list(self.cluster.workers)}), self._job, self.cluster.index,
                config=self._settings)
        except tf.errors.OpError as error:
            raise UserError(f"{self.cluster.name(self.cluster.index)}: can't listen there "
                            f"({error.message.splitlines()[0]}); take another port, for all workers alike") from error
        self._questions = liveness.Questions(self.cluster)
        with contextlib.ExitStack() as stack:
            stack.callback(self._questions.close)
            stack.push(self._say_farewell)
            answers = self._wait_for_all()
            self._watch = liveness.Watch(self.cluster, self._questions, answers, self._end)
            stack.callback(self._watch.close)
            stack.push(self._explain)
            self._build_table()
            self.compare(self._card)
            self._closing = stack.pop_all()
        logging.info("%s of %d: all are there", self.cluster.name(self.cluster.index), len(self.cluster.workers))
        return self

    def __exit__(self, kind, error, trace):
        with self._closing:
            if kind is None or issubclass(kind, Interrupted):
                self._tell()                # which waits until all have come here
            if error:
                raise error

    # The start

    def _wait_for_all(self):
        """Wait until all other workers answer -> {index: answer}. Raises UserError where one does not, or is wrong."""
        began, told = time.monotonic(), False
        while True:
            answers = self._questions.ask()
            for index, answer in answers.items():
                self._check_identity(index, liveness.identity_in(answer))
            missing = [index for index, answer in answers.items() if not isinstance(answer, bytes)]
            if not missing:
                return answers
            waited = time.monotonic() - began
            if waited > self.cluster.timeout:
                raise UserError(f"{self.cluster.names(missing)}: not there after {self.cluster.timeout:g} s; start all "
                                f"{len(self.cluster.workers)} workers, with the same addresses")
            if waited > PATIENCE and not told:
                told = True
                logging.info("waiting for %s", self.cluster.names(missing))
            time.sleep(POLL)

    def _check_identity(self, index, found):
        """Raise UserError where the server at the address of worker `index` is another one: `found` (job, number)."""
        if not found or found == (self._job, index):
            return
        job, number = found
        if job != self._job:
            raise UserError(f"{self.cluster.name(index)} belongs to {job.rpartition('_')[2]} workers, and this one to "
                            f"{len(self.cluster.workers)}; start all with the same list of workers")
        raise UserError(f"{self.cluster.name(index)}: what listens there takes itself for worker {number}; give each "
                        "worker its number, and all the same list")

    # Comparing

    def _build_table(self):
        """Make the graph in which each worker tells a row of numbers, and sees those of all."""
        self._table = tf.Graph()
        with self._table.as_default(), tf.device(CPU):
            self._row = tf1.placeholder(tf.int32, [len(self.cluster.workers), CARD_NUMBERS])
            self._rows = collectives.Exchange(self.cluster, key=collectives.COMPARING).sum(self._row)
        self._table_session = self.open_session(self._table, self._settings)

    def _tell(self, content=b""):
        """Tell all workers `content`, and wait for theirs -> list of bytes, in the order of their numbers."""
        packed = zlib.compress(content)
        table = np.zeros([len(self.cluster.workers), CARD_NUMBERS], np.int32)
        if len(packed) > 4 * (CARD_NUMBERS - 1):
            raise ValueError("too much to tell")
        table[self.cluster.index, 0] = len(packed)
        table[self.cluster.index, 1:] = np.frombuffer(packed.ljust(4 * (CARD_NUMBERS - 1), b"\0"), np.int32)
        rows = self._table_session.run(self._rows, {self._row: table}, options=_options_of(collectives.COMPARING))
        return [zlib.decompress(row[1:].tobytes()[:row[0]]) for row in rows]

    def compare(self, card):
        """Raise UserError where another worker's `card` {what: value} differs. All workers call this at the same time.

        `what` is said in the message, before the two values. A value is one that JSON can hold.
        """
        cards = [json.loads(told) for told in self._tell(json.dumps(card).encode())]
        mine = cards[self.cluster.index]
        for index in self.cluster.others:
            for what in mine | cards[index]:
                here, there = mine.get(what), cards[index].get(what)
                if here != there:
                    raise UserError(f"{self.cluster.name(index)} differs from this worker in {what}: {there} there, "
                                    f"{here} here; start all workers alike")

    def compare_weights(self, session, variables, step):
        """Raise UserError where another worker goes on with another step, or with other values of its variables.

        `variables` {name: variable} are all that the next step depends on.
        """
        total = hashlib.sha256()
        for name, value in sorted(session.run(variables).items()):      # one by one, it would take minutes
            total.update(name.encode() + value.tobytes())
        self.compare({"the step from which to go on": step, "its weights": total.hexdigest()[:DIGITS]})

    # Training

    def exchange(self):
        """Make the `collectives.Exchange` of a graph."""
        return collectives.Exchange(self.cluster, self._hint)

    def open_session(self, graph, settings):
        """Open a session for a tf.Graph on this worker's server."""
        del settings                    # the server has them
        session = tf1.Session(self._server.target, graph=graph, config=self._settings)
        self._sessions.append(session)
        return session

    def stop_request(self):
        """Make the StopRequest in whose context the steps are run."""
        self._stop = SharedStop()
        return self._stop

    def run_step(self, session, graph, fetches, feed):
        """Run one step of a training, and learn whether a worker was asked to stop; `graph` has its `exchange`."""
        votes = [float(self._stop is not None and self._stop.wanted == number) for number in SIGNALS]
        exchange = graph.exchange
        results, counts = session.run([fetches, exchange.counts], {**feed, exchange.votes: votes},
                                      options=_options_of(collectives.TRAINING))
        if self._stop is not None:
            self._stop.agreed = next((number for number, count in zip(SIGNALS, counts) if count), None)
        return results

    def keep_in(self, folder):
        """Remember the `folder` of the run, from which all can go on when a worker is lost."""
        self._folder = folder

    # When a worker is lost

    def _end(self):
        """Close the sessions, since one of them may wait for a lost worker forever; called by the Watch's thread.

        Where this process does not end by itself then, such as in a kernel of a GPU, it is ended here.
        """
        for session in self._sessions:
            session.close()
        if not self._leaving.wait(self._farewell):
            print(f"{os.path.basename(sys.argv[0])}: error: {one_line(self._words())}", file=sys.stderr, flush=True)
            os._exit(2)

    @property
    def _farewell(self):
        return min(liveness.FAREWELL * self.cluster.timeout, liveness.MOST_FAREWELL)

    def _words(self):
        """Say who is lost, and how to go on."""
        run = f" with --load_path {self._folder}" if self._folder else ""
        lost = self._watch.lost
        return (f"{self.cluster.names(lost)} {'do' if len(lost) > 1 else 'does'} not answer any more; see its log, and "
                f"start all workers again{run}")

    def _explain(self, kind, error, trace):
        """Raise UserError for an error that the loss of a worker led to, or one that began in another worker."""
        self._leaving.set()
        failed = isinstance(error, tf.errors.OpError)
        together = failed and TOGETHER in str(error)
        if kind and (self._watch.lost or (failed and self._watch.find_lost(patient=together))):
            raise UserError(self._words()) from None
        if together:
            raise UserError(f"what all workers do together failed ({first_line(error)}); see the logs of the others"
                            ) from None

    def _say_farewell(self, kind, error, trace):
        """After an error, answer for a while, so that the others find the same worker lost, and not this one."""
        if isinstance(error, UserError):
            time.sleep(self._farewell)


def _options_of(key):
    """Make the tf1.RunOptions of a run with collective operations. Workers' runs of the same `key` belong together."""
    options = tf1.RunOptions()
    options.experimental.collective_graph_key = key
    return options
