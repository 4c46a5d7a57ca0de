"""The delivery of events to webhooks: each at least once, of one vehicle in order.

Many deliveries are under way at once, and of each webhook only so many: a receiver that is slow
holds up its own events and nobody else's.
"""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from evcc.errors import EvccError
from plugvault.delivery import signature
from plugvault.delivery.outcome import Settings, settle
from plugvault.net import NetError, Outbound
from plugvault.pools.errors import PoolError
from plugvault.pools.events import envelope
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.delivery")

TIMEOUT = 10.0  # seconds a receiver has for its answer, all of it
LEASE = 60.0  # seconds a worker has for a delivery before another may take it
THREADS = 64  # deliveries at once
EACH = 4  # of them to one webhook
EVERY = 0.2  # seconds between two looks into the store when nothing is due
_REST = 1.0  # seconds before a webhook is looked at again whose due events wait for earlier ones


@dataclass(frozen=True)
class _Taken:
    delivery: Delivery
    event: Event
    endpoint: Endpoint


class Worker:
    """Delivers from one process; any number may work on a store at once.

    `secret(endpoint_id)`: what deliveries to it are signed with; `clock()`: Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        secret: Callable[[str], str],
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._secret, self._settings, self._clock = store, secret, settings, clock
        self._outbound = Outbound(settings.networks, TIMEOUT)
        self._threads = ThreadPoolExecutor(THREADS, "plugvault-delivery")
        self._busy: Counter[str] = Counter()  # by endpoint
        self._resting: dict[str, float] = {}  # endpoint -> until when (monotonic)
        self._changed = threading.Condition()

    def step(self) -> int:
        """Deliver what is due now and return when each has its outcome; how many there were."""
        self._resting.clear()
        started = self._start()
        wait(started)
        return len(started)

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`, then wait for what is under way."""
        try:
            while not stop.is_set():
                try:
                    started = self._start()
                except PoolError as error:
                    log.warning("deliveries: %s", error)
                    started = []
                if not started:
                    with self._changed:
                        self._changed.wait(EVERY)
        finally:
            self._threads.shutdown()

    def _start(self) -> list[Future[None]]:
        with self._changed:
            busy = self._busy.copy()
        now, tick = self._clock(), time.monotonic()
        with self._store.read() as records:
            waiting = [
                endpoint
                for endpoint in records.deliveries.due(now)
                if busy[endpoint.endpoint_id] < EACH
                and self._resting.get(endpoint.endpoint_id, 0.0) <= tick
            ]
        # Those with least under way first: no webhook can keep another from its turn.
        waiting.sort(key=lambda endpoint: busy[endpoint.endpoint_id])
        room = THREADS - busy.total()
        if not waiting or room <= 0:
            return []
        taken = self._claim(waiting, busy, room, now)
        with self._changed:
            self._busy.update(one.endpoint.endpoint_id for one in taken)
        return [self._threads.submit(self._deliver, one) for one in taken]

    def _claim(
        self, waiting: list[Endpoint], busy: Counter[str], room: int, now: float
    ) -> list[_Taken]:
        taken: list[_Taken] = []
        with self._store.write() as records:
            for endpoint in waiting:
                share = min(EACH - busy[endpoint.endpoint_id], room - len(taken))
                if share <= 0:
                    break
                found = records.deliveries.claim(endpoint.endpoint_id, now, now + LEASE, share)
                if not found:
                    self._resting[endpoint.endpoint_id] = time.monotonic() + _REST
                taken += [_Taken(delivery, event, endpoint) for delivery, event in found]
        return taken

    def _deliver(self, taken: _Taken) -> None:
        try:
            # Who had to wait for a thread so long that another may have it now lets it be.
            if self._clock() + TIMEOUT <= taken.delivery.lease:
                status, words = self._post(taken)
                with self._store.write() as records:
                    settle(
                        records,
                        taken.delivery,
                        taken.event,
                        self._settings,
                        self._clock(),
                        status,
                        words,
                    )
        except EvccError as error:  # no store, no key: the lease ends and somebody tries again
            log.warning("delivery %s: %s", taken.event.event_id, error)
        except Exception:
            log.exception("delivery %s", taken.event.event_id)
        finally:
            with self._changed:
                self._busy[taken.endpoint.endpoint_id] -= 1
                self._resting.pop(taken.endpoint.endpoint_id, None)
                self._changed.notify_all()

    def _post(self, taken: _Taken) -> tuple[int, str]:
        """The status, 0 without an answer, and words for the owner of the webhook."""
        body = json.dumps(envelope(taken.event)).encode()
        secret = self._secret(taken.endpoint.endpoint_id)
        headers = {"Content-Type": "application/json", **signature.headers(secret, body)}
        try:
            answer = self._outbound.request("POST", taken.endpoint.url, body, headers)
        except NetError as error:
            return 0, str(error)
        return answer.status, f"The receiver answered {answer.status}."
