"""Make ecosystems partners of each other: each gets access to each, audited and active.

For a group of new test ecosystems. Real partners take the steps of `plugvault.pools.peers` one by
one, by their administrators: `plugvault ecosystem partners`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import permutations

from plugvault.federation.clients import Link
from plugvault.pools import peers
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.repositories import Store
from plugvault.roles.client import Credentials


@dataclass(frozen=True)
class Partner:
    """One ecosystem. `register(caller)`: register a client there and return its credentials.
    `trust`: PEM of the root above its HTTPS certificate, None without HTTPS."""

    name: str
    url: str
    store: Store
    register: Callable[[Caller], Credentials]
    trust: str | None = None


def connect(partners: Iterable[Partner], now: float) -> dict[str, dict[str, Link]]:
    """{name of an ecosystem: {name of its partner: link to the partner}}."""
    mesh = list(partners)
    links: dict[str, dict[str, Link]] = {partner.name: {} for partner in mesh}
    for client, server in permutations(mesh, 2):
        credentials = server.register(Caller(client.name, frozenset({PEER})))
        links[client.name][server.name] = Link(**vars(credentials), trust=server.trust)
        with server.store.write() as records:
            by = "introduction"
            peers.apply(records, client.name, client.url, credentials.client_id, by, now)
            peers.move(records, client.name, peers.AUDITED, by, now)
            peers.move(records, client.name, peers.ACTIVE, by, now)
    return links
