"""Recheck the foreign certificates in the pools, because their CAs may have revoked them
meanwhile.

`update` stores the revocations; cleansing then removes the records. Certificates of our own CAs
are not checked: their status is in the store already.

Responders may be slow or silent, and an issuer chooses the address of its responder. So several
issuers are checked at the same time, each for a limited time in a step and in a round; the next
round continues after the last certificate.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from plugvault.pools.repositories import Contracts, Records, Store, Vehicles

PAGE = 100  # records of one issuer in a step
STEP = 10.0  # seconds of one issuer in a step
ROUND = 300.0  # seconds of one issuer in a round
AT_ONCE = 8  # issuers

Pool = Callable[[Records], Vehicles | Contracts]

_POOLS: tuple[Pool, ...] = (lambda records: records.vehicles, lambda records: records.contracts)


@dataclass
class _Progress:
    """The progress of one issuer in one pool. `last`: serial number; `spent`: seconds of this
    round."""

    pool: Pool
    issuer: str
    last: str = ""
    spent: float = 0.0
    is_complete: bool = False


class RecheckRevocation:
    """A periodic task in small steps: each call checks a page of each of some issuers, and returns
    whether more follow.

    `update(certificates)`: as `Services.update_revocations`, called in several threads; `own`: key
    identifiers of our CAs, hexadecimal; `clock()`: seconds of a monotonic clock.
    """

    def __init__(
        self,
        update: Callable[[Sequence[bytes]], None],
        own: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._update, self._own, self._clock = update, own, clock
        self._queue: deque[_Progress] | None = None
        self._unfinished: dict[tuple[Pool, str], str] = {}  # last serial numbers of a round

    def __call__(self, store: Store, _now: float) -> bool:
        if self._queue is None:
            self._queue = deque(self._issuers(store))
        queue, self._queue = self._queue, None  # after an error a round starts again
        if not queue:
            return False
        turn = [queue.popleft() for _ in range(min(AT_ONCE, len(queue)))]
        with ThreadPoolExecutor(AT_ONCE, "plugvault-recheck") as threads:
            list(threads.map(partial(self._check, store), turn))
        for progress in turn:
            if progress.is_complete:
                continue
            if progress.spent < ROUND:
                queue.append(progress)
            else:
                self._unfinished[progress.pool, progress.issuer] = progress.last
        self._queue = queue
        return True

    def _issuers(self, store: Store) -> list[_Progress]:
        unfinished, self._unfinished = self._unfinished, {}
        with store.read() as records:
            return [
                _Progress(pool, issuer, unfinished.get((pool, issuer), ""))
                for pool in _POOLS
                for issuer in pool(records).issuers()
                if issuer not in self._own
            ]

    def _check(self, store: Store, progress: _Progress) -> None:
        """Leaf and sub-CAs of each record of a page, between two transactions."""
        begin = self._clock()
        with store.read() as records:
            page = progress.pool(records).of_issuer(progress.issuer, progress.last, PAGE)
        for record in page:
            self._update((record.certificate, *record.subs))
            progress.last = record.serial
            if self._clock() - begin > STEP:
                break
        else:
            progress.is_complete = len(page) < PAGE
        progress.spent += self._clock() - begin
