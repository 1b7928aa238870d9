"""Many items done by several processes: with progress, and an end in good order when they are interrupted."""
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

from tqdm.contrib.logging import logging_redirect_tqdm

from utils import Interrupted, progress_bar, SIGNALS, StopRequest, UserError

POLL = .2           # seconds between two looks at whether to stop


def process_all(function, shared, items, keep, *, workers, unit, per_item=1, method="fork", prepare=None):
    """`keep(function(shared, item))` for all `items`, the functions in `workers` processes, with progress.

    An item counts as `per_item` of `unit`. With the `method` fork, workers find `shared` in memory; with spawn they get
    a copy, and begin with `prepare()`. When interrupted, items that are under way are finished and kept.
    Raises Interrupted, what a function raised, and UserError when a process was killed.
    """
    if not len(items):
        return
    pending = set()

    def collect(most):
        """Wait until no more than `most` items are pending."""
        while len(pending) > most:
            done, _ = concurrent.futures.wait(pending, POLL, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                pending.remove(future)
                keep(future.result())
                progress.update(per_item)
            if stop.signal:
                raise Interrupted(stop.signal)

    workers = min(workers, len(items))
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start, (shared, prepare))
    with StopRequest() as stop, logging_redirect_tqdm(), progress_bar(unit, per_item * len(items)) as progress:
        try:
            for item in items:
                with _signals_blocked():            # for ever in the processes that are started here
                    pending.add(pool.submit(_work, function, item))
                collect(most=2 * workers)
            collect(most=0)
        except BrokenProcessPool as error:
            for worker in multiprocessing.active_children():
                worker.kill()                       # it may wait for a lock that the dead one held
            raise UserError("a worker was killed, perhaps for want of memory; run the same command again, perhaps with "
                            "fewer --workers") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for future in pending:
                if not future.cancelled() and not future.exception():
                    keep(future.result())


@contextlib.contextmanager
def _signals_blocked():
    """SIGINT and SIGTERM wait until the block ends. They are the main process's: workers end what they have begun."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(shared, prepare):
    """Begin a worker, which ends with the main process even if that is killed."""
    global _shared
    _shared = shared
    threading.Thread(target=_follow_parent, daemon=True).start()
    if prepare:
        prepare()


def _follow_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(function, item):
    return function(_shared, item)
