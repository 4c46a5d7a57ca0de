"""A simulated line for tests of the link: slow, noisy, first in first out, on its own clock."""


class Chance:
    """A small generator of pseudo-random numbers, the same on every runtime."""

    def __init__(self, seed):
        self.state = seed * 2 + 1

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % n

    def bytes(self, n):
        return bytes([self.below(256) for _ in range(n)])


def spoil(data, chance, per_thousand):
    """`data` with `per_thousand` bytes in a thousand changed, dropped or repeated."""
    out = bytearray()
    for byte in data:
        kind = chance.below(3) if chance.below(1000) < per_thousand else 3
        if kind == 0:
            out.append((byte + 1 + chance.below(255)) & 0xFF)
        elif kind == 2:
            out.append(byte)
            out.append(byte)
        elif kind == 3:
            out.append(byte)
    return bytes(out)


class Wire:
    """One direction: at most `rate` bytes come out in a millisecond, `delay_ms` after they could
    have come out."""

    def __init__(self, chance, per_thousand=0, rate=11, delay_ms=0):
        self.chance = chance
        self.per_thousand = per_thousand
        self.rate = rate
        self.waiting = b""
        self.carried = 0
        self.far = [b""] * delay_ms

    def put(self, data):
        self.carried += len(data)
        if data:
            self.waiting += spoil(data, self.chance, self.per_thousand)

    def take(self):
        data = self.waiting[: self.rate]
        self.waiting = self.waiting[self.rate :]
        if self.far:
            self.far.append(data)
            data = self.far.pop(0)
        return data


class Line:
    """Two ends and the wires between them. `got`: the messages at each end, in order."""

    def __init__(self, a, b, seed=1, per_thousand=0, rate=11, delay_ms=0):
        self.ends = [a, b]
        self.wires = [
            Wire(Chance(seed), per_thousand, rate, delay_ms),
            Wire(Chance(seed + 1), per_thousand, rate, delay_ms),
        ]
        self.got = [[], []]
        self.now = 0

    def tick(self):
        self.now += 1
        for i in (0, 1):
            data = self.wires[1 - i].take()
            if data:
                self.got[i] += self.ends[i].feed(data, self.now)
            self.wires[i].put(self.ends[i].poll(self.now))

    def run(self, limit_ms=60000):
        """Run until everything sent has arrived. Returns the milliseconds of the line's clock."""
        start = self.now
        while not (self.ends[0].idle() and self.ends[1].idle()):
            if self.now - start > limit_ms:
                raise AssertionError("still under way after " + str(limit_ms) + " ms")
            self.tick()
        return self.now - start
