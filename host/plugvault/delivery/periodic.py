"""Periodic tasks beside the deliveries: cleansing, termination of operators, purge of old events.

Each task works in small transactions that only one worker wins, so that every worker may run all
tasks.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from evcc.errors import EvccError
from plugvault.backoff import Backoff
from plugvault.delivery.outcome import DeliverySettings
from plugvault.delivery.worker import Worker
from plugvault.failing import FailingLoops
from plugvault.pools import termination
from plugvault.pools.repositories import Store

BATCH = 200  # events looked at in one transaction
LONGEST_PAUSE = 60.0  # seconds until the next turn of a failing task, if not longer each time
CHECK = 0.2  # seconds between two checks of the threads


@dataclass(frozen=True)
class PeriodicTask:
    """A task. `run(store, now)` is called every `every` seconds, and again immediately when it
    returns True. After an EvccError it goes on: see `FailingLoops`."""

    name: str
    every: float
    run: Callable[[Store, float], object]


def _terminate(store: Store, now: float) -> bool:
    return termination.work(store, now) is not None


TASKS = (PeriodicTask("termination", 1.0, _terminate),)


class PurgeEvents:
    """Delete events that are older than `age` seconds, except those with a delivery that is still
    pending or dead. A client of the event stream that returns within this time misses no event."""

    def __init__(self, age: float) -> None:
        self._age = age
        self._after = 0

    def __call__(self, store: Store, now: float) -> bool:
        with store.write() as records:
            after = records.events.forget(self._after, now - self._age, BATCH)
        self._after = after or 0
        return after is not None


def run(
    store: Store,
    secret: Callable[[str], str],
    settings: DeliverySettings,
    clock: Callable[[], float],
    stop: threading.Event,
    tasks: Sequence[PeriodicTask] = TASKS,
    failing: FailingLoops | None = None,
) -> None:
    """Deliver events and run the tasks until `stop`; arguments as of `Worker`.

    Raises any unexpected exception of a thread, so that the process's supervisor restarts it.
    """
    failing = failing or FailingLoops()
    worker = Worker(store, secret, settings, clock, failing)
    with ThreadPoolExecutor(len(tasks) + 1, "plugvault-task") as threads:
        futures = [threads.submit(worker.run, stop)]
        futures += [threads.submit(_repeat, task, store, clock, stop, failing) for task in tasks]
        while not stop.wait(CHECK):
            if any(future.done() for future in futures):
                stop.set()
        for future in futures:
            future.result()


def _repeat(
    task: PeriodicTask,
    store: Store,
    clock: Callable[[], float],
    stop: threading.Event,
    failing: FailingLoops,
) -> None:
    backoff = Backoff(task.every, max(task.every, LONGEST_PAUSE))
    while not stop.is_set():
        try:
            has_more = task.run(store, clock())
        except EvccError as error:
            failing.fails(task.name, error)
            stop.wait(backoff.pause())
            continue
        failing.works(task.name)
        backoff.reset()
        if has_more is not True:
            stop.wait(task.every)
