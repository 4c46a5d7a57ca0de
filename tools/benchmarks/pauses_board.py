"""Measures on an emulated board how long the module computes between two looks at its link.

`board.py` puts it in front of `main.py`. Every wait of the module is in its port's `read`: so it
computes from the end of one `read` to the beginning of the next. The emulator counts instructions
and the time of the flash in registers that no real chip has (tools/board).

`report()` gives JSON, since the start of the board:
    "start": microseconds from here to the first look at the link
    "longest": microseconds of the longest pause, without the time of the flash in it
    "instructions": of that pause
    "with_flash": microseconds of the longest pause, the time of the flash included
"""

import json
import time

from machine import mem32

from evcc.ports.stream import Stream

INSTRUCTIONS, FLASH_US = 0x400F0000, 0x400F0004
MASK = 0x3FFFFFFF  # a register has 30 bits

_first = time.ticks_us()
_begin = [0, 0, 0]  # of this stretch: instructions, microseconds of the flash, and of the board
_most = {}
_port_read = Stream.read


def _read(stream, n, timeout_ms):
    _end_of_stretch()
    data = _port_read(stream, n, timeout_ms)
    _begin[0] = mem32[INSTRUCTIONS]
    _begin[1] = mem32[FLASH_US]
    _begin[2] = time.ticks_us()
    return data


def _end_of_stretch():
    took = time.ticks_diff(time.ticks_us(), _begin[2])
    if not _most:
        _most["start"] = time.ticks_diff(time.ticks_us(), _first)
        _most["longest"] = _most["instructions"] = _most["with_flash"] = 0
        return
    _most["with_flash"] = max(_most["with_flash"], took)
    took -= (mem32[FLASH_US] - _begin[1]) & MASK
    if took > _most["longest"]:
        _most["longest"] = took
        _most["instructions"] = (mem32[INSTRUCTIONS] - _begin[0]) & MASK


def report():
    """The figures so far, as JSON."""
    return json.dumps(_most)


Stream.read = _read
