"""Two clocks: the time of day, for certificates, and a steady one, for timeouts.

Both are plain integers that never wrap, so that the protocol code can subtract them. A board
without a clock chip starts in the past: `evcc.timekeeper` notices that.
"""

import time

# MicroPython counts from 2000 on some boards (esp32, rp2 with the old epoch), from 1970 on others.
_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0


def now() -> int:
    """Time of day: seconds since 1970-01-01 UTC."""
    return int(time.time()) + _EPOCH


def sleep_ms(duration: int) -> None:
    """Wait for `duration` milliseconds. Serves no line and feeds no watchdog."""
    time.sleep(duration / 1000)


if hasattr(time, "ticks_ms"):
    # ticks_ms wraps (after 12 days on a 32-bit board): so the differences are summed up.
    _seen = time.ticks_ms()
    _total = 0

    def ticks_ms() -> int:
        """Milliseconds since an arbitrary start; never goes back."""
        global _seen, _total
        ticks = time.ticks_ms()
        _total += max(time.ticks_diff(ticks, _seen), 0)
        _seen = ticks
        return _total

else:

    def ticks_ms() -> int:
        """Milliseconds since an arbitrary start; never goes back."""
        return time.monotonic_ns() // 1000000  # pyright: ignore[reportAttributeAccessIssue]
