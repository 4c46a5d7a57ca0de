"""What has to be done again and again, beside deliveries: cleansing, ending an operator, and
forgetting what everybody was told long ago.

Each duty is done in small transactions by whoever comes first, so that every worker may have all
of them.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from evcc.errors import EvccError
from plugvault.delivery.outcome import Settings
from plugvault.delivery.worker import Worker
from plugvault.pools import termination
from plugvault.pools.cleansing import cleanse
from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.delivery")

BATCH = 200  # events looked at in one transaction
LOOK = 0.2  # seconds until the end of one of the threads is noticed


@dataclass(frozen=True)
class PeriodicTask:
    """`do(store, now)` every so many seconds, and again at once when it gives True. An EvccError
    is noted, and it is tried again."""

    name: str
    every: float
    do: Callable[[Store, float], object]


def _end_operators(store: Store, now: float) -> bool:
    return termination.work(store, now) is not None


TASKS = (
    PeriodicTask("cleansing", 60.0, cleanse),
    PeriodicTask("termination", 1.0, _end_operators),
)


class PurgeEvents:
    """Delete events that are older than so many seconds. What is still to be delivered stays, and
    what was given up, until it has been sent. Who follows the stream has this long to come back.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._after = 0

    def __call__(self, store: Store, now: float) -> bool:
        with store.write() as records:
            after = records.events.forget(self._after, now - self._keep, BATCH)
        self._after = after or 0
        return after is not None


def run(
    store: Store,
    secret: Callable[[str], str],
    settings: Settings,
    clock: Callable[[], float],
    stop: threading.Event,
    duties: Sequence[PeriodicTask] = TASKS,
) -> None:
    """Deliver events and do the duties until `stop`; arguments as of `Worker`.

    Raises what no part of it expected, so that whoever keeps the process alive starts it anew.
    """
    worker = Worker(store, secret, settings, clock)
    with ThreadPoolExecutor(len(duties) + 1, "plugvault-duty") as threads:
        running = [threads.submit(worker.run, stop)]
        running += [threads.submit(_repeat, duty, store, clock, stop) for duty in duties]
        while not stop.wait(LOOK):
            if any(one.done() for one in running):
                stop.set()
        for one in running:
            one.result()


def _repeat(
    duty: PeriodicTask, store: Store, clock: Callable[[], float], stop: threading.Event
) -> None:
    while not stop.is_set():
        more: object = False
        try:
            more = duty.do(store, clock())
        except EvccError as error:
            log.warning("%s: %s", duty.name, error)
        if more is not True:
            stop.wait(duty.every)
