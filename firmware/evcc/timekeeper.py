"""The time that certificates are judged by: only the maker can set it back.

A clock that is set back would make expired certificates valid. So the latest time seen is stored,
to within `STEP`, and is the earliest possible time after a start. The maker's time, sent over its
authenticated channel, overrides the clock in both directions until the next start.
"""

from .errors import EvccError
from .record import RecordError, pack, unpack

FILE = "time"
STEP = 3600  # seconds; a board's flash bears a write an hour


class TimeError(EvccError):
    REASONS = ("damaged",)


class Timekeeper:
    """files: a `ports.files.Files`. clock: () -> unix seconds. ticks_ms: () -> milliseconds of a
    clock that never goes back.

    Raises: TimeError("damaged"); StoreError.
    """

    def __init__(self, files, clock, ticks_ms) -> None:
        self._files = files
        self._clock = clock
        self._ticks_ms = ticks_ms
        self._makers_time = None  # (unix seconds, ticks when it came)
        self._latest = self._stored = 0
        stored = files.read(FILE)
        if stored is not None:
            try:
                (latest,) = unpack(stored)
            except (RecordError, ValueError) as e:
                raise TimeError("damaged", "the latest time: " + str(e))
            if len(latest) != 8:
                raise TimeError("damaged", "the latest time has %d bytes" % len(latest))
            self._latest = self._stored = int.from_bytes(latest, "big")

    def now(self) -> int:
        """Unix seconds."""
        if self._makers_time is None:
            now = self._clock()
        else:
            start, ticks = self._makers_time
            now = start + (self._ticks_ms() - ticks) // 1000
        self._latest = max(self._latest, now)
        if self._latest >= self._stored + STEP:
            try:
                self._store(self._latest)
            except EvccError:
                pass  # a car with a full disk can still charge
        return self._latest

    def set(self, now: int) -> None:
        """Take the maker's time. Raises StoreError, and changes nothing then."""
        self._store(now)
        self._latest = now
        self._makers_time = (now, self._ticks_ms())

    def _store(self, now: int) -> None:
        self._files.write(FILE, pack([now.to_bytes(8, "big")]))
        self._stored = now
