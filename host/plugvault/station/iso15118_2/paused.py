"""The sessions that vehicles have paused at a station, for one of them to go on.

A paused session is joined only with its id, by the vehicle with the same EVCCID, and pays with the
same contract. It is forgotten when that happens, after a day, or when too many others come.
"""

from dataclasses import dataclass

from plugvault import bounded

ROOM = 64
SECONDS = 86_400


@dataclass(frozen=True)
class Paused:
    """emaid: "" for a session with other payment. until: unix seconds."""

    evccid: bytes
    emaid: str
    mode: str
    until: float


class PausedSessions:
    """Shared by the connections of one station."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._sessions: dict[bytes, Paused] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def remember(
        self, session_id: bytes, evccid: bytes, emaid: str, mode: str, now: float
    ) -> None:
        self._sessions.pop(session_id, None)
        bounded.put(
            self._sessions, self._room, session_id, Paused(evccid, emaid, mode, now + SECONDS)
        )

    def find(self, session_id: bytes, evccid: bytes, now: float) -> Paused | None:
        """The session of this id, if it is this vehicle's and not too old."""
        paused = self._sessions.get(session_id)
        if paused is None or paused.evccid != evccid or now >= paused.until:
            return None
        return paused

    def forget(self, session_id: bytes) -> None:
        self._sessions.pop(session_id, None)
