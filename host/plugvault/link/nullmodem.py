"""A null-modem cable: two pseudo-terminals, and a thread that carries bytes between them.

Noise, where a test wants it, is a function on the bytes of each piece carried. A pseudo-terminal
knows no speed: with `baud` the cable keeps to it, ten bits a byte.
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
_TICK = 0.005  # seconds: how finely a slow cable is paced

Spoil = Callable[[bytes], bytes]


class NullModem:
    """The cable while the context lasts. `a` and `b`: the paths of its two ends.

    noise: what each direction does to the bytes it carries. `carried`: bytes from a to b, b to a.
    """

    def __init__(self, noise: Spoil | None = None, baud: int | None = None) -> None:
        self._noise = noise
        self._bytes_per_tick = max(int(baud / 10 * _TICK), 1) if baud else None
        self.carried = [0, 0]
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        pairs = [pty.openpty(), pty.openpty()]
        # The slave ends stay open here: an end that comes and goes is then no hang-up.
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
            wanted_in = [
                m for m, full in zip(self._masters, waiting[::-1], strict=True) if not full
            ]
            wanted_out = [m for m, out in zip(self._masters, waiting, strict=True) if out]
            ready_in, ready_out, _ = select.select(wanted_in, wanted_out, [], 0.05)
            for i in (0, 1):
                if self._masters[i] in ready_in:
                    waiting[1 - i] = self._take(i)
                if self._masters[i] in ready_out:
                    waiting[i] = waiting[i][self._give(i, waiting[i]) :]
            if self._bytes_per_tick and ready_out:
                time.sleep(_TICK)

    def _take(self, end: int) -> bytes:
        data = os.read(self._masters[end], _PIECE)
        self.carried[end] += len(data)
        return self._noise(data) if self._noise else data

    def _give(self, end: int, data: bytes) -> int:
        try:
            return os.write(self._masters[end], data[: self._bytes_per_tick])
        except BlockingIOError:
            return 0
