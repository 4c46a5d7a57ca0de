"""Deliver events to webhooks: each at least once, those of one vehicle in order.

Many deliveries run at the same time, but only a few for each webhook: a slow receiver delays its
own events only.
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
from plugvault.backoff import Backoff
from plugvault.delivery import signature
from plugvault.delivery.outcome import DeliverySettings, settle
from plugvault.failing import FailingLoops
from plugvault.net import NetError, Outbound
from plugvault.pools.errors import PoolError
from plugvault.pools.events import envelope
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.delivery")

TIMEOUT = 10.0  # seconds a receiver has for its whole answer
LEASE = 30.0  # seconds until another worker may take over a delivery
THREADS = 64  # concurrent deliveries
PER_WEBHOOK = 4  # of them to one webhook
POLL = 0.2  # seconds between two queries of the store when nothing is due
LONGEST_PAUSE = 5.0  # seconds until the next query after failures
_PAUSE = 1.0  # seconds until a webhook is tried again whose due events wait for earlier ones
_LOOP = "deliveries"  # its name among the failing loops


@dataclass(frozen=True)
class _Lease:
    delivery: Delivery
    event: Event
    endpoint: Endpoint


class Worker:
    """Delivers events from one process; any number of processes may share a store.

    `secret(endpoint_id)`: the secret that signs an endpoint's deliveries; `settings`: see
    `DeliverySettings`; `clock()`: Unix seconds; `failing`: is told when the store is away.
    """

    def __init__(
        self,
        store: Store,
        secret: Callable[[str], str],
        settings: DeliverySettings,
        clock: Callable[[], float],
        failing: FailingLoops | None = None,
    ) -> None:
        self._failing = failing or FailingLoops()
        self._store, self._secret, self._settings, self._clock = store, secret, settings, clock
        self._outbound = Outbound(settings.networks, TIMEOUT)
        self._threads = ThreadPoolExecutor(THREADS, "plugvault-delivery")
        self._running: Counter[str] = Counter()  # deliveries by endpoint
        self._paused: dict[str, float] = {}  # endpoint -> end of its pause (monotonic)
        self._changed = threading.Condition()

    def step(self) -> int:
        """Deliver the due events and wait for their outcomes. Returns their number."""
        self._paused.clear()
        futures = self._start()
        wait(futures)
        return len(futures)

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`, then wait for the running deliveries."""
        backoff = Backoff(POLL, LONGEST_PAUSE)
        try:
            while not stop.is_set():
                try:
                    futures = self._start()
                except PoolError as error:
                    self._failing.fails(_LOOP, error)
                    stop.wait(backoff.pause())
                    continue
                self._failing.works(_LOOP)
                backoff.reset()
                if not futures:
                    with self._changed:
                        self._changed.wait(POLL)
        finally:
            self._threads.shutdown()

    def _start(self) -> list[Future[None]]:
        with self._changed:
            running = self._running.copy()
        now, monotonic = self._clock(), time.monotonic()
        with self._store.read() as records:
            waiting = [
                endpoint
                for endpoint in records.deliveries.due(now)
                if running[endpoint.endpoint_id] < PER_WEBHOOK
                and self._paused.get(endpoint.endpoint_id, 0.0) <= monotonic
            ]
        # Webhooks with the fewest running deliveries first, so that each gets its share.
        waiting.sort(key=lambda endpoint: running[endpoint.endpoint_id])
        room = THREADS - running.total()
        if not waiting or room <= 0:
            return []
        leases = self._claim(waiting, running, room, now)
        with self._changed:
            self._running.update(lease.endpoint.endpoint_id for lease in leases)
        return [self._threads.submit(self._deliver, lease) for lease in leases]

    def _claim(
        self, waiting: list[Endpoint], running: Counter[str], room: int, now: float
    ) -> list[_Lease]:
        leases: list[_Lease] = []
        with self._store.write() as records:
            for endpoint in waiting:
                share = min(PER_WEBHOOK - running[endpoint.endpoint_id], room - len(leases))
                if share <= 0:
                    break
                claimed = records.deliveries.claim(endpoint.endpoint_id, now, now + LEASE, share)
                if not claimed:
                    self._paused[endpoint.endpoint_id] = time.monotonic() + _PAUSE
                leases += [_Lease(delivery, event, endpoint) for delivery, event in claimed]
        return leases

    def _deliver(self, lease: _Lease) -> None:
        try:
            # A delivery that waited too long for a thread is left to the next lease.
            if self._clock() + TIMEOUT <= lease.delivery.lease:
                status, outcome = self._post(lease)
                with self._store.write() as records:
                    settle(
                        records,
                        lease.delivery,
                        lease.event,
                        lease.endpoint.url,
                        self._settings,
                        self._clock(),
                        status,
                        outcome,
                    )
        except EvccError as error:  # no store or no key: the lease ends and a worker retries
            log.warning("delivery %s: %s", lease.event.event_id, error)
        except Exception:
            log.exception("delivery %s", lease.event.event_id)
        finally:
            with self._changed:
                self._running[lease.endpoint.endpoint_id] -= 1
                self._paused.pop(lease.endpoint.endpoint_id, None)
                self._changed.notify_all()

    def _post(self, lease: _Lease) -> tuple[int, str]:
        """(HTTP status or 0 without an answer, a text for the owner of the webhook)."""
        body = json.dumps(envelope(lease.event)).encode()
        secret = self._secret(lease.endpoint.endpoint_id)
        headers = {"Content-Type": "application/json", **signature.headers(secret, body)}
        try:
            answer = self._outbound.request("POST", lease.endpoint.url, body, headers)
        except NetError as error:
            return 0, str(error)
        return answer.status, f"The receiver answered {answer.status}."
