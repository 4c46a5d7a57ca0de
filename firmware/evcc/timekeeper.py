"""The time that certificates are judged by: only the maker can set it back.

A clock that is set back would make expired certificates valid. So the latest time seen is stored,
to within `STEP`, and is the lowest possible time after a start. A board without a clock chip
starts years behind it. Then the time is not known and no date is judged, until the maker sends its
time over the authenticated channel. That time overrides the clock in both directions until the
next start.

What remains: a clock that is wrong, but ahead of the lowest possible time, is believed until the
maker's time comes.
"""

from .errors import EvccError
from .record import RecordError, pack, unpack

FILE = "time"
STEP = 3600  # seconds; a board's flash endures one write an hour
RELEASE = 1767225600  # 2026-01-01: a clock before this software is wrong, in a new car too


class TimeError(EvccError):
    """The time cannot be read from its file, or is not known."""

    REASONS = (
        "damaged",
        "clock",  # the time is not known
    )


class Timekeeper:
    """files: a `ports.files.Files`. clock: () -> unix seconds. ticks_ms: () -> milliseconds of a
    clock that never goes back. set_clock: called with the maker's unix seconds, for a clock chip.
    report: called with the error, once, when the time can no longer be stored.

    Raises: TimeError("damaged"); StoreError.
    """

    def __init__(self, files, clock, ticks_ms, set_clock=None, report=None) -> None:
        self._files = files
        self._clock = clock
        self.ticks_ms = ticks_ms
        self._set_clock = set_clock
        self._report = report
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

    def source(self) -> str:
        """The origin of the time: "maker", "clock", or "" while the time is not known."""
        if self._makers_time is not None:
            return "maker"
        lowest = max(self._latest, RELEASE)
        return "clock" if self._clock() >= lowest - STEP else ""

    def trusted(self) -> int:
        """The time to judge dates by, unix seconds. Raises TimeError("clock") if not known."""
        if not self.source():
            raise TimeError("clock", "the time is not known until the maker sends it")
        return self.now()

    def now(self) -> int:
        """Unix seconds; the lowest possible time while the time is not known."""
        if self._makers_time is None:
            now = self._clock()
        else:
            start, ticks = self._makers_time
            now = start + (self.ticks_ms() - ticks) // 1000
        self._latest = max(self._latest, now)
        if self._latest >= self._stored + STEP:
            try:
                self._store(self._latest)
            except EvccError as e:  # a car with a full disk can still charge
                if self._report is not None:
                    self._report(e)
                    self._report = None
        return self._latest

    def set(self, now: int) -> None:
        """Take the maker's time, unix seconds. Raises StoreError, and changes nothing then."""
        self._store(now)
        self._latest = now
        self._makers_time = (now, self.ticks_ms())
        if self._set_clock is not None:
            self._set_clock(now)

    def _store(self, now: int) -> None:
        self._files.write(FILE, pack([now.to_bytes(8, "big")]))
        self._stored = now
