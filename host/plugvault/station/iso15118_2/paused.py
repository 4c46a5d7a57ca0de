"""The sessions that vehicles have paused at a station and may continue.

A vehicle joins a paused session with its id, the same EVCCID and the same contract. The station
forgets a session when it is joined, after a day, or when too many others come.
"""

from dataclasses import dataclass

from plugvault import bounded

ROOM = 64
SECONDS = 86_400


@dataclass(frozen=True)
class Paused:
    """A paused session. evccid: of the vehicle; emaid: "" for a session with other payment; mode:
    the EnergyTransferMode; until: Unix seconds."""

    evccid: bytes
    emaid: str
    mode: str
    until: float


class PausedSessions:
    """The paused sessions of one station, for all its connections. room: their greatest number."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._sessions: dict[bytes, Paused] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def remember(
        self, session_id: bytes, evccid: bytes, emaid: str, mode: str, now: float
    ) -> None:
        """Store a paused session for SECONDS. With too many, the oldest one is dropped."""
        self._sessions.pop(session_id, None)
        bounded.put(
            self._sessions, self._room, session_id, Paused(evccid, emaid, mode, now + SECONDS)
        )

    def find(self, session_id: bytes, evccid: bytes, now: float) -> Paused | None:
        """The session of this id, for the vehicle with its EVCCID, until its time is over; else
        None."""
        paused = self._sessions.get(session_id)
        if paused is None or paused.evccid != evccid or now >= paused.until:
            return None
        return paused

    def forget(self, session_id: bytes) -> None:
        """Drop the session of this id, if it is stored."""
        self._sessions.pop(session_id, None)
