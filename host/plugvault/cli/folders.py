"""The orderly end of a command after a signal."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stoppable() -> Iterator[None]:
    """End the context by SystemExit after SIGTERM and SIGHUP, so that temporary files are
    removed."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    handlers = [
        signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in signals
    ]
    try:
        yield
    finally:
        for number, handler in zip(signals, handlers, strict=True):
            signal.signal(number, handler)
