"""A null-modem cable: two pseudo-terminals, and a thread that carries bytes between them.

Noise for tests is a function on the bytes of each piece. A pseudo-terminal has no speed of its
own: with `baud` the cable delays the bytes, ten bits a byte.
"""

import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Self

_PIECE = 1024
_TICK = 0.005  # seconds between two pieces on a slow cable

Noise = Callable[[bytes], bytes]


class NullModem:
    """The cable while the context lasts. `a` and `b`: the paths of its two ends.

    baud: bits a second, None for no delay. noise: changes the bytes of each direction. `carried`:
    bytes from a to b, from b to a.
    """

    def __init__(self, noise: Noise | None = None, baud: int | None = None) -> None:
        self._noise = noise
        self._bytes_per_tick = max(int(baud / 10 * _TICK), 1) if baud else None
        self.carried = [0, 0]
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        pairs = [pty.openpty(), pty.openpty()]
        # The slave ends stay open here, so that a user that closes one end causes no hang-up.
        self._masters = [master for master, _ in pairs]
        self._slaves = [slave for _, slave in pairs]
        for descriptor in self._masters + self._slaves:
            tty.setraw(descriptor)
        for master in self._masters:
            os.set_blocking(master, False)
        self.a, self.b = (Path(os.ttyname(slave)) for slave in self._slaves)
        self._thread = threading.Thread(target=self._run, name="null modem", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._thread.join(timeout=10)
        for descriptor in self._masters + self._slaves:
            os.close(descriptor)

    def _run(self) -> None:
        waiting = [b"", b""]  # by the end they come out of
        while not self._closing.is_set():
            readers = [self._masters[end] for end in (0, 1) if not waiting[1 - end]]
            writers = [self._masters[end] for end in (0, 1) if waiting[end]]
            ready_in, ready_out, _ = select.select(readers, writers, [], 0.05)
            for end in (0, 1):
                if self._masters[end] in ready_in:
                    waiting[1 - end] = self._read(end)
                if self._masters[end] in ready_out:
                    waiting[end] = waiting[end][self._write(end, waiting[end]) :]
            if self._bytes_per_tick and ready_out:
                time.sleep(_TICK)

    def _read(self, end: int) -> bytes:
        data = os.read(self._masters[end], _PIECE)
        self.carried[end] += len(data)
        return self._noise(data) if self._noise else data

    def _write(self, end: int, data: bytes) -> int:
        try:
            return os.write(self._masters[end], data[: self._bytes_per_tick])
        except BlockingIOError:
            return 0
