"""Verifies on a board that has `evcc/p256.mpy`; `verification.py` starts this.

That file puts CASE (key, digest and signature as hex), NEW and KNOWN in front of it: how often to
verify with a new and with a known key. Prints one line of JSON: microseconds of the board's time,
of the longest stretch between two pauses and of one collection of garbage.
"""

import gc
import json
import time

from evcc import p256

BALLAST = 100 * 1024  # bytes in use, as by a module whose code is on the heap
PIECE = 96
BLOCK = 16  # of the heap, for the head of each piece


class Pauses:
    """The `pause` of a verification: keeps the longest time between two calls, in µs."""

    def __init__(self):
        self.longest = 0
        self.last = time.ticks_us()

    def __call__(self):
        now = time.ticks_us()
        self.longest = max(self.longest, time.ticks_diff(now, self.last))
        self.last = now


def main(case, new, known):
    kept = [bytes(PIECE) for _ in range(BALLAST // (PIECE + BLOCK))]
    gc.threshold(16384)  # as boot.py sets it
    assert p256.verify(*case)
    longest = 0
    for i in range(new + known):
        if i < new:
            del p256._tables[:]
        pauses = Pauses()
        assert p256.verify(*case, pauses)
        longest = max(longest, pauses.longest)
    started = time.ticks_us()
    gc.collect()
    collection = time.ticks_diff(time.ticks_us(), started)
    print(json.dumps({"longest": longest, "collection": collection, "kept": len(kept)}))


main([bytes.fromhex(text) for text in CASE], NEW, KNOWN)  # noqa: F821
