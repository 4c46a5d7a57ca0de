"""The time that certificates are judged by: it never goes back, but by the maker's word.

A clock that is set back would revive what has expired. So the latest time seen is kept, within
`STEP`, and is the earliest there is after a start. What the maker says over its authenticated
channel counts more than the clock, forward or backward, until the next start.
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
        self._told = None  # (unix seconds, ticks) of the maker's word
        self._latest = self._kept = 0
        stored = files.read(FILE)
        if stored is not None:
            try:
                (latest,) = unpack(stored)
            except (RecordError, ValueError) as e:
                raise TimeError("damaged", "the latest time: " + str(e))
            if len(latest) != 8:
                raise TimeError("damaged", "the latest time has %d bytes" % len(latest))
            self._latest = self._kept = int.from_bytes(latest, "big")

    def now(self) -> int:
        """Unix seconds."""
        if self._told is None:
            now = self._clock()
        else:
            told, ticks = self._told
            now = told + (self._ticks_ms() - ticks) // 1000
        self._latest = max(self._latest, now)
        if self._latest >= self._kept + STEP:
            try:
                self._keep(self._latest)
            except EvccError:
                pass  # a full disk is no reason not to charge
        return self._latest

    def set(self, now: int) -> None:
        """It is `now`, says who may say so. Raises StoreError, and then it is as it was."""
        self._keep(now)
        self._latest = now
        self._told = (now, self._ticks_ms())

    def _keep(self, now: int) -> None:
        self._files.write(FILE, pack([now.to_bytes(8, "big")]))
        self._kept = now
