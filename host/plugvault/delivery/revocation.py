"""Recheck the foreign certificates in the pools: their CAs may have revoked them meanwhile.

`update` enters the revocations into the store; cleansing then removes the records. Certificates of
our own CAs are not checked: their status is in the store already.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from plugvault.pools.repositories import Contracts, Records, Store, Vehicles

PAGE = 100

_POOLS: tuple[Callable[[Records], Vehicles | Contracts], ...] = (
    lambda records: records.vehicles,
    lambda records: records.contracts,
)


class RecheckRevocation:
    """A periodic task in small steps: each call checks one page and returns whether more follow.

    `update(certificates)`: `Services.update_revocations`; `own`: key identifiers of our CAs,
    hexadecimal.
    """

    def __init__(
        self, update: Callable[[Sequence[bytes]], None], own: Collection[str] = ()
    ) -> None:
        self._update = update
        self._own = own
        self._pages: Iterator[list[Sequence[bytes]]] | None = None

    def __call__(self, store: Store, _now: float) -> bool:
        if self._pages is None:
            self._pages = _pages(store, self._own)
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            return False
        for certificates in page:
            self._update(certificates)
        return True


def _pages(store: Store, own: Collection[str]) -> Iterator[list[Sequence[bytes]]]:
    """Leaf and sub-CAs of each vehicle, then of each contract. Each page is a transaction."""
    for pool in _POOLS:
        with store.read() as records:
            issuers = [issuer for issuer in pool(records).issuers() if issuer not in own]
        for issuer in issuers:
            last = ""
            while True:
                with store.read() as records:
                    page = pool(records).of_issuer(issuer, last, PAGE)
                if not page:
                    break
                last = page[-1].serial
                yield [(record.certificate, *record.subs) for record in page]
