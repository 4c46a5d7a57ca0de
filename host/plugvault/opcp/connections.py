"""The limits of open connections of one process: in all, and from one address.

Each connection takes a file descriptor, and a process without descriptors serves nothing at all.
So all connections together get half of the descriptors that the system allows (`ulimit -n`), and
one address a quarter of that. The loopback has no share of its own: behind a proxy on this machine
all clients have its address.
"""

import ipaddress
import resource
from collections import defaultdict
from functools import lru_cache

from plugvault.opcp.budget import network

_MOST = 16_384  # also where the system allows more: each connection takes memory, too
_SHARE = 4  # addresses that together take everything


class Connections:
    """The open connections, by address. `most`: the limit of all connections; None: half of the
    descriptors that the system allows, 16,384 at most."""

    def __init__(self, most: int | None = None) -> None:
        self.most = _half_of_the_descriptors() if most is None else most
        self.of_one_address = max(1, self.most // _SHARE)
        self._count = 0
        self._open: defaultdict[str, set[object]] = defaultdict(set)

    def __len__(self) -> int:
        return self._count

    def add(self, host: str, connection: object) -> bool:
        """Count a connection from `host`, an IP address. False, and nothing is counted, when a
        limit is reached. `connection`: any hashable object that identifies the connection."""
        address, is_loopback = _read(host)
        if self._count >= self.most:
            return False
        if not is_loopback and len(self._open.get(address, ())) >= self.of_one_address:
            return False
        self._open[address].add(connection)
        self._count += 1
        return True

    def remove(self, host: str, connection: object) -> None:
        """Stop counting a connection that has ended. A connection that is not counted changes
        nothing."""
        address, _ = _read(host)
        connections = self._open.get(address, set())
        if connection in connections:
            connections.remove(connection)
            self._count -= 1
            if not connections:
                del self._open[address]


def _half_of_the_descriptors() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if allowed == resource.RLIM_INFINITY else min(_MOST, max(1, allowed // 2))


@lru_cache(1024)
def _read(host: str) -> tuple[str, bool]:
    """The `network` of an IP address, and whether the address is the loopback's."""
    return network(host), ipaddress.ip_address(host.partition("%")[0]).is_loopback
