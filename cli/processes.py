"""Process many items with several processes, show progress, and end in good order when interrupted."""
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import NamedTuple

from tqdm.contrib.logging import logging_redirect_tqdm

from utils import Interrupted, progress_bar, SIGNALS, StopRequest, UserError

POLL = .2           # seconds after which a wait looks whether a signal came


class _NotBegun:
    """The result of an item that was waiting when a signal came."""


class Pool(NamedTuple):
    """How many processes do the work, how they start, and what their progress counts."""
    workers: int                    # processes
    unit: str                       # what progress counts, such as image
    per_item: int = 1               # units in an item
    method: str = "fork"            # fork: processes find `shared` in memory; spawn: they get a copy of it
    prepare: Callable | None = None     # called without arguments in each process before its first item


def process_all(function, shared, items, keep, pool):
    """Call `keep(function(shared, item))` for all `items`, and show progress.

    `function` runs in the processes of a Pool, and `keep` in this one, in the order in which results arrive.
    Raises Interrupted after SIGINT or SIGTERM, when the items under way are finished and kept. A second signal ends all
    processes at once. Raises what `function` or `keep` raised, and UserError when a process was killed.
    """
    if not len(items):
        return
    pending = set()

    def collect(most):
        """Keep the results that arrive, until no more than `most` items are pending."""
        while len(pending) > most:
            done, _ = concurrent.futures.wait(pending, POLL, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                pending.remove(future)
                keep(future.result())
                progress.update(pool.per_item)
            if stop.signal:
                stopper.send(None)
                raise Interrupted(stop.signal)

    workers, context = min(pool.workers, len(items)), multiprocessing.get_context(pool.method)
    stopping, stopper = context.Pipe(duplex=False)  # what is sent here, and never read, tells workers to begin no more
    if pool.method == "spawn":
        _start_quiet_tracker()
    executor = concurrent.futures.ProcessPoolExecutor(workers, context, _start, (shared, pool.prepare, stopping))
    total = pool.per_item * len(items)
    with (stopping, stopper, StopRequest(_kill_workers) as stop, logging_redirect_tqdm(),
          progress_bar(pool.unit, total) as progress):
        try:
            for item in items:
                with _signals_blocked():            # a process that is started here inherits this for ever
                    pending.add(executor.submit(_work, function, item))
                collect(most=2 * workers)
            collect(most=0)
        except BrokenProcessPool as error:
            _kill_workers()                         # they may wait for a lock that the killed one held
            raise UserError("a worker was killed, perhaps for want of memory; run the same command again, perhaps with "
                            "fewer --workers") from error
        finally:
            broken = sys.exc_info()[0] not in (None, Interrupted)
            executor.shutdown(wait=True, cancel_futures=True)
            for future in pending:
                if not future.cancelled() and not future.exception() and future.result() is not _NotBegun:
                    with contextlib.suppress(Exception) if broken else contextlib.nullcontext():
                        keep(future.result())           # what went wrong first is what is told


def _kill_workers():
    for worker in multiprocessing.active_children():
        worker.kill()


@contextlib.contextmanager
def _signals_blocked():
    """Block SIGINT and SIGTERM in this context. Processes that start in it finish their items in spite of a signal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_quiet_tracker():
    """Start the process that looks after spawned ones, so that it does not complain when a signal ends them at once."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _start(shared, prepare, stopping):
    """Begin a worker. It ends with the main process, even if that is killed."""
    global _shared, _stopping
    _shared, _stopping = shared, stopping
    threading.Thread(target=_follow_parent, daemon=True).start()
    if prepare:
        prepare()


def _follow_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(function, item):
    return _NotBegun if _stopping.poll() else function(_shared, item)


def silence():
    """Send stderr to nowhere, in a worker: what runs networks would write into the progress bar."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
