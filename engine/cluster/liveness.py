"""Ask other workers now and then whether they still answer, and notice when one is lost.

A worker's TensorFlow server answers the question GetStatus from threads of its own. So a worker that draws or saves for
minutes answers, and one that was stopped, killed or cut off does not. The question goes to the port that TensorFlow
uses anyway, by the gRPC package that TensorFlow brings.
"""
import re
import threading
import time

import grpc

STATUS = "/tensorflow.WorkerService/GetStatus"      # its request is empty; the answer lists a server's devices
DEVICE = re.compile(rb"/job:(\w+)/replica:0/task:(\d+)")
CHANNEL = [("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 200),
           ("grpc.min_reconnect_backoff_ms", 500), ("grpc.max_reconnect_backoff_ms", 1000)]
MOST_WAIT = 2.                  # seconds to wait for one answer
# Shares of the time after which a silent worker ends the training: how long it has to be silent, and how long one that
# has noticed stays there to answer, so that the others don't take it for the lost one.
SILENCE, FAREWELL, MOST_FAREWELL = .6, .2, 5.
REFUSED = 5.                    # seconds after which one is lost whose machine says that nobody listens there


class Questions:
    """A channel to each of the other workers of an `addresses.Cluster`. Call `close` in the end."""

    def __init__(self, cluster):
        """Prepare the channels; each connects when it is first used."""
        self._channels = {index: grpc.insecure_channel(cluster.workers[index], CHANNEL) for index in cluster.others}
        self._asks = {index: channel.unary_unary(STATUS) for index, channel in self._channels.items()}
        self.wait = min(MOST_WAIT, cluster.timeout / 10)

    def ask(self):
        """Ask all other workers at once -> {index: answer}: bytes, None for no answer, "refused" where none listens."""
        calls = {index: ask.future(b"", timeout=self.wait) for index, ask in self._asks.items()}
        answers = {}
        for index, call in calls.items():
            try:
                answers[index] = call.result()
            except grpc.RpcError as error:
                answers[index] = "refused" if "refused" in (error.details() or "") else None
        return answers

    def close(self):
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()


def identity_in(answer):
    """Read who gave an answer to `Questions.ask` -> (the job's name, the worker's number), None where nobody did."""
    match = DEVICE.search(answer) if isinstance(answer, bytes) else None
    return (match[1].decode(), int(match[2])) if match else None


class Watch:
    """A thread that asks the other workers until one is lost, and calls a function then. Call `close` in the end."""

    def __init__(self, cluster, questions, answers, on_loss):
        """Watch the workers of a Cluster by Questions, who gave the first `answers` {index: bytes}.

        `on_loss()` is called in the thread, when `lost` lists the numbers of who is lost. A worker that was started
        anew is lost too, and its answer tells it.
        """
        self._questions, self._first, self._on_loss = questions, answers, on_loss
        self._silence = SILENCE * cluster.timeout
        self._silent = dict.fromkeys(cluster.others, 0.)        # seconds, in which we were awake ourselves
        self._refused = dict.fromkeys(cluster.others, 0.)
        self._lock, self._end, self._time = threading.Lock(), threading.Event(), time.monotonic()
        self.lost = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._end.wait(self._questions.wait / 2):
            if self._look():
                self._on_loss()
                return

    def _look(self):
        """Ask once -> whether a worker is lost."""
        with self._lock:
            answers, now = self._questions.ask(), time.monotonic()
            # A process that was stopped itself has not listened meanwhile.
            passed, self._time = min(now - self._time, 2 * self._questions.wait), now
            if self.lost or self._end.is_set():
                return bool(self.lost)
            for index, answer in answers.items():
                self._silent[index] = 0. if answer == self._first[index] else self._silent[index] + passed
                self._refused[index] = self._refused[index] + passed if answer == "refused" else 0.
                again = isinstance(answer, bytes) and answer != self._first[index]
                if self._silent[index] > self._silence or self._refused[index] > min(REFUSED, self._silence) or again:
                    self.lost.append(index)
            return bool(self.lost)

    def find_lost(self, patient):
        """Wait until a worker is lost, or all answer -> the list of those that are lost.

        It is called after an operation failed, which shows that somebody may be lost. If `patient`, wait for a worker
        that still answers and is about to end too.
        """
        until = time.monotonic() + (self._silence if patient else 0)
        while not self._look() and (any(self._silent.values()) or time.monotonic() < until):
            time.sleep(self._questions.wait / 4)
        return self.lost

    def close(self):
        """End the thread."""
        self._end.set()
        self._thread.join(10)
