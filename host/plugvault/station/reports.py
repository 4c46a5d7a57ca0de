"""The reports of a station about its connections: for a display, a log or another program."""

from collections.abc import Callable
from dataclasses import dataclass

from plugvault.station.events import Authorized, Charged, Charging, Message, Paused
from plugvault.tls import Handshake


@dataclass(frozen=True)
class Connected:
    """A vehicle has opened a connection. peer: its address and port."""

    peer: str


@dataclass(frozen=True)
class TurnedAway:
    """A connection was closed at once, because the station has its greatest number of connections.
    limit: that number."""

    peer: str
    limit: int


@dataclass(frozen=True)
class Secured:
    """The TLS handshake is complete."""

    handshake: Handshake


@dataclass(frozen=True)
class Ended:
    """The connection is over. reason: "" after a SessionStop; authorized: whether the session
    was, by a contract or by other payment."""

    reason: str
    authorized: bool


Report = (
    Connected | TurnedAway | Secured | Message | Authorized | Charging | Charged | Paused | Ended
)
Listener = Callable[[int, Report], object]  # (number of the connection, from 1 on; the report)
