"""Find which processes train together: from --cluster and --worker, Slurm's variables, or TF_CONFIG. No TensorFlow."""
import errno
import json
import os
import re
import socket
from typing import NamedTuple

from engine.cluster import slurm
from utils import UserError

ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:,/\[\]]+):(\d{1,9})")
FORM = "HOST:PORT for each worker, with commas between them"
MOST_PORT = 65535


class Cluster(NamedTuple):
    """The processes, called workers, that share the steps of a training."""
    workers: tuple                  # "host:port" of each, in the order of their numbers
    index: int                      # number of this one, from 0
    timeout: float                  # seconds after which one that does not answer ends the training

    @property
    def leads(self):
        """Tell whether this is worker 0, which writes the run."""
        return self.index == 0

    @property
    def others(self):
        """List the numbers of the other workers."""
        return [index for index in range(len(self.workers)) if index != self.index]

    def name(self, index):
        """Name a worker for a message: `worker 1 (host:port)`."""
        return f"worker {index} ({self.workers[index]})"

    def names(self, indices):
        """Name several workers for a message."""
        return ", ".join(map(self.name, indices))


def cluster_of(options):
    """Read the Cluster from resolved options; None where one process trains alone."""
    if not options.cluster:
        return None
    return Cluster(tuple(options.cluster.split(",")), options.worker, options.collective_timeout)


def resolve(options, error, environment=os.environ):
    """Set --cluster to the addresses of all workers and --worker to the number of this one, "" and None for one alone.

    Without --cluster, they are those of TF_CONFIG, if the `environment` has one. Calls `error` with one line where
    these contradict each other or have another form.
    """
    try:
        workers, index = _find(options, environment)
    except UserError as problem:
        error(str(problem))
        workers, index = [], None
    several = len(workers) > 1
    options.cluster, options.worker = ",".join(workers) if several else "", index if several else None


def _find(options, environment):
    """Find the addresses of all workers and the number of this one -> (list, int), ([], None) where there are none."""
    word = options.cluster
    if word.lower() == slurm.WORD:
        return slurm.read(environment)
    if word:
        workers = _checked(word.split(","), "--cluster")
        if options.worker is None:
            raise UserError(f"--cluster {word}: needs --worker, a number from 0 to {len(workers) - 1} for each process")
        if options.worker >= len(workers):
            raise UserError(f"--worker {options.worker}: must be from 0 to {len(workers) - 1}, as --cluster names "
                            f"{len(workers)} worker{'s' * (len(workers) > 1)}")
        return workers, options.worker
    if options.worker is not None:
        raise UserError(f"--worker {options.worker}: needs --cluster, {FORM}")
    text = environment.get("TF_CONFIG", "").strip()
    return read_tf_config(text) if text else ([], None)


def read_tf_config(text):
    """Read the value of TF_CONFIG -> (addresses of all workers, number of this one), ([], None) where none are named.

    A chief is worker 0, and the others follow it. Raises UserError.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"TF_CONFIG: not JSON ({error}); correct it, or unset it") from error
    cluster, task = (value.get(name) if isinstance(value, dict) else None for name in ("cluster", "task"))
    if not cluster and not task:
        return [], None                     # what some schedulers set for a job of one process
    if not isinstance(cluster, dict) or not isinstance(cluster.get("worker", cluster.get("chief")), list):
        raise UserError('TF_CONFIG: has no list of workers; it must be {"cluster": {"worker": ["HOST:PORT", ...]}, '
                        '"task": {"type": "worker", "index": 0}}')
    chiefs, others = (cluster.get(name) or [] for name in ("chief", "worker"))
    if not isinstance(task, dict) or not isinstance(task.get("index"), int) or not isinstance(task.get("type"), str):
        raise UserError('TF_CONFIG: does not tell which worker this is; add "task": {"type": "worker", "index": 0}')
    kinds = {"chief": (chiefs, 0), "worker": (others, len(chiefs))}
    if task["type"] not in kinds:
        raise UserError(f"TF_CONFIG: task type {task['type']}: only a chief and workers train here; leave it out")
    group, first = kinds[task["type"]]
    if not 0 <= task["index"] < len(group):
        raise UserError(f"TF_CONFIG: task index {task['index']}: its cluster has {len(group)} of type {task['type']}, "
                        "counted from 0")
    return _checked([*chiefs, *others], "TF_CONFIG"), first + task["index"]


def _checked(workers, source):
    """Check the form of addresses -> list. `source` names where they come from. Raises UserError."""
    workers = [worker.strip() if isinstance(worker, str) else worker for worker in workers]
    for worker in workers:
        match = ADDRESS.fullmatch(worker) if isinstance(worker, str) else None
        if not match:
            raise UserError(f"{source} {worker}: must be {FORM}")
        if not 1 <= int(match[2]) <= MOST_PORT:
            raise UserError(f"{source} {worker}: the port must be from 1 to {MOST_PORT}")
        if workers.count(worker) > 1:
            raise UserError(f"{source}: {worker} stands there twice; each worker needs an address of its own")
    return workers


def check(cluster):
    """Raise UserError where the host of a worker is not known, or where the own port can't be used."""
    for worker in cluster.workers:
        host, port = _split(worker)
        try:
            socket.getaddrinfo(host, port)
        except (OSError, UnicodeError) as error:
            raise UserError(f"{worker}: no machine of this name is known here ({getattr(error, 'strerror', error)}); "
                            "correct the list of workers") from error
    _, port = _split(cluster.workers[cluster.index])
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
            listener.listen(1)
        except OSError as error:
            why = "another program uses it" if error.errno == errno.EADDRINUSE else error.strerror
            raise UserError(f"{cluster.name(cluster.index)}: can't listen on port {port} of this machine ({why}); "
                            "take another one, for all workers alike") from error


def _split(worker):
    """Split the address of a worker -> (host, port)."""
    host, _, port = worker.rpartition(":")
    return host.strip("[]"), int(port)
