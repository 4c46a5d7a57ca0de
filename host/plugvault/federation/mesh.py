"""Introduce ecosystems to each other: each is given access to each, audited and active.

What a fleet of test ecosystems needs at its birth. Real partners take the steps of
`plugvault.pools.peers` one by one, with people between them: `plugvault ecosystem partners`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from plugvault.federation.peers import Link
from plugvault.pools import peers
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.repositories import Store
from plugvault.roles.client import Credentials


@dataclass(frozen=True)
class Partner:
    """One ecosystem. `register(caller)`: gives a client of it its credentials. `trust`: PEM of
    the root its HTTPS stands under, where it has any."""

    name: str
    url: str
    store: Store
    register: Callable[[Caller], Credentials]
    trust: str | None = None


def connect(parties: Iterable[Partner], now: float) -> dict[str, dict[str, Link]]:
    """For each ecosystem's name, what it calls each of the others with."""
    everyone = list(parties)
    links: dict[str, dict[str, Link]] = {party.name: {} for party in everyone}
    for asking in everyone:
        for asked in everyone:
            if asking is asked:
                continue
            caller = Caller(asking.name, frozenset({PEER}))
            credentials = asked.register(caller)
            links[asking.name][asked.name] = Link(**vars(credentials), trust=asked.trust)
            with asked.store.write() as records:
                who = "introduction"
                peers.apply(records, asking.name, asking.url, credentials.client_id, who, now)
                peers.move(records, asking.name, peers.AUDITED, who, now)
                peers.move(records, asking.name, peers.ACTIVE, who, now)
    return links
