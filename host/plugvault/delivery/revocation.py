"""Ask again about what is in the pools: what another CA has revoked since it was stored.

Whatever is found revoked is entered by who asks; the pools look there, and cleansing removes it.
Certificates of our own CAs are not asked about: their status is in the store.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from plugvault.pools.repositories import Contracts, Records, Store, Vehicles

PAGE = 100

_POOLS: tuple[Callable[[Records], Vehicles | Contracts], ...] = (
    lambda records: records.vehicles,
    lambda records: records.contracts,
)


class RecheckRevocation:
    """A duty, in small steps: each call asks about one page and says whether there is another.

    `refresh(certificates)`: of `Services`; `own`: key identifiers of our CAs, hexadecimal.
    """

    def __init__(
        self, refresh: Callable[[Sequence[bytes]], None], own: Collection[str] = ()
    ) -> None:
        self._refresh = refresh
        self._own = own
        self._round: Iterator[list[Sequence[bytes]]] | None = None

    def __call__(self, store: Store, _now: float) -> bool:
        if self._round is None:
            self._round = _pages(store, self._own)
        page = next(self._round, None)
        if page is None:
            self._round = None
            return False
        for certificates in page:
            self._refresh(certificates)
        return True


def _pages(store: Store, own: Collection[str]) -> Iterator[list[Sequence[bytes]]]:
    """Leaf and sub-CAs of each vehicle, then of each contract; no transaction stays open."""
    for pool in _POOLS:
        with store.read() as records:
            issuers = [one for one in pool(records).issuers() if one not in own]
        for issuer in issuers:
            last = ""
            while True:
                with store.read() as records:
                    found = pool(records).of_issuer(issuer, last, PAGE)
                if not found:
                    break
                last = found[-1].serial
                yield [(one.certificate, *one.subs) for one in found]
