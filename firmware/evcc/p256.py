"""ECDSA P-256 verification in plain Python, for boards whose token or firmware offers none.

Follows FIPS 186-5 section 6.4.2 and SEC 1 section 4.1.4: u1*G + u2*Q in one pass over both scalars
(Shamir's trick), in non-adjacent form, in Jacobian coordinates with 2*y in the place of y. Odd
multiples of G and Q are affine, so that one formula adds both. The result is compared with r
without a field inversion. A reduction modulo P is one division of MicroPython's big integers,
which costs less there than any sum of shifted parts.

It runs in variable time and leaves its numbers on the heap: right for public data, wrong for a
private key. There is no signing and no key agreement here, and there must never be.
"""

import gc

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_G_WIDTH = 5  # of the non-adjacent form: 2^(width - 2) multiples in the table
_Q_WIDTH = 4  # 5 would cost as much for its table as it saves

_g_multiples = []  # filled at the first verification, kept: 1 KiB of heap on a 32-bit board

_gc_threshold = getattr(gc, "threshold", None)  # not on CPython


def on_curve(point: bytes) -> bool:
    """True when `point` is 65 bytes, 0x04‖X‖Y, on the curve, coordinates reduced, not infinity."""
    return _decode(point) is not None


def verify(point: bytes, digest: bytes, signature: bytes, pause=None) -> bool:
    """True when `signature` is over `digest` under the public key `point`.

    point: 65 bytes, 0x04‖X‖Y. digest: 32 bytes. signature: 64 bytes, r‖s.
    pause: a function without arguments, called some 700 times at even intervals, so that a slow
    board can serve its link in between. Its errors end the verification.
    False for everything else: wrong lengths, a point off the curve, r or s zero or not below N.
    """
    if _gc_threshold is None:
        return _verify(point, digest, signature, pause or _go_on)
    # 0.8 MB of short-lived numbers: the early collections that boot.py sets would double the time.
    threshold = _gc_threshold()
    _gc_threshold(-1)
    try:
        return _verify(point, digest, signature, pause or _go_on)
    finally:
        _gc_threshold(threshold)


def _verify(point, digest, signature, pause):
    q = _decode(point)
    if q is None or len(digest) != 32 or len(signature) != 64:
        return False
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N):
        return False
    if not _g_multiples:
        _g_multiples.extend(_odd_multiples(_G, _G_WIDTH, pause))
    w = _inverse(s, N, pause)
    u1 = _naf(int.from_bytes(digest, "big") * w % N, _G_WIDTH)
    pause()
    u2 = _naf(r * w % N, _Q_WIDTH)
    pause()
    x, _, z = _sum_of_products(u1, _g_multiples, u2, _odd_multiples(q, _Q_WIDTH, pause), pause)
    # x/z^2 mod P, then mod N, must be r. N < P, so r + N may be the coordinate too. Infinity is
    # (1, 2, 0), which no r fits.
    zz = z * z % P
    return (r * zz - x) % P == 0 or (r + N < P and ((r + N) * zz - x) % P == 0)


def _go_on():
    """Do not pause."""


def _decode(point):
    """(X, Y) of an uncompressed point on the curve, else None."""
    if len(point) != 65 or point[0] != 4:
        return None
    x = int.from_bytes(point[1:33], "big")
    y = int.from_bytes(point[33:], "big")
    if x >= P or y >= P or (y * y - (x * x - 3) * x - _B) % P:
        return None
    return x, y


def _inverse(a, m, pause):
    """a^-1 mod m by Euclid. MicroPython's pow(a, -1, m) answers 0 and says nothing."""
    u, v, x, y = a, m, 1, 0
    while u != 1:
        q, rest = divmod(v, u)
        u, v, x, y = rest, u, y - q * x, x
        pause()
    return x % m


def _naf(k, width):
    """Non-adjacent form of k: byte i is digit i, zero or odd and below 2^(width-1), as a signed
    byte."""
    digits = bytearray(257)
    octets = k.to_bytes(34, "little")
    at = carry = 0
    while at < 257:
        window = (octets[at >> 3] | octets[(at >> 3) + 1] << 8) >> (at & 7)
        if window & 1 == carry:  # this digit is zero
            at += 1
            continue
        digit = (window & (1 << width) - 1) + carry
        carry = digit >> width - 1
        digits[at] = digit - (carry << width) & 0xFF
        at += width
    return digits


def _double(x, y, z):
    """2*(x, y/2, z), for a = -3 (Guide to ECC, algorithm 3.23). Infinity: z = 0."""
    zz = z * z % P
    yy = y * y % P
    b = x * yy % P
    a = 3 * (x - zz) * (x + zz) % P
    z = y * z % P
    x = (a * a - 2 * b) % P
    return x, (2 * a * (b - x) - yy * yy) % P, z


def _add(x1, y1, z1, x2, y2):
    """(x1, y1/2, z1) + (x2, y2/2), the second affine (madd-2007-bl)."""
    if not z1:
        return x2, y2, 1
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    r = (zz * z1 % P * y2 - y1) % P
    if not h:  # same x: the same point, or its negative
        return (1, 2, 0) if r else _double(x1, y1, z1)
    h2 = 2 * h
    i = h2 * h2 % P
    j = h * i % P
    v = x1 * i % P
    x = (r * r - j - 2 * v) % P
    return x, 2 * (r * (v - x) - y1 * j) % P, h2 * z1 % P


def _odd_multiples(point, width, pause):
    """1, 3, 5, ... times an affine point, 2^(width-2) of them, each as (x, 2*y)."""
    affine = point[0], 2 * point[1] % P
    multiples: list = [(0, 2, 0), affine + (1,)]
    for n in range(2, 1 << width - 1):
        if n & 1:
            multiples.append(_add(*(multiples[n - 1] + affine)))
        else:
            multiples.append(_double(*multiples[n // 2]))
        pause()
    return _affine(multiples[1::2], pause)


def _affine(points, pause):
    """(x, 2*y) of points with z not 0, with one inversion for all (Montgomery's trick)."""
    products = [1]
    for point in points:
        products.append(products[-1] * point[2] % P)
    inverse = _inverse(products.pop(), P, pause)
    out = []
    for x, y, z in reversed(points):
        i = inverse * products.pop() % P
        inverse = inverse * z % P
        ii = i * i % P
        out.append((x * ii % P, y * ii % P * i % P))
        pause()
    out.reverse()
    return out


def _sum_of_products(digits1, table1, digits2, table2, pause):
    """k1*A + k2*B in Jacobian coordinates, from digits and odd multiples of each."""
    x, y, z = 1, 2, 0
    at = len(digits1)
    while at:
        at -= 1
        if z:
            x, y, z = _double(x, y, z)
            pause()
        for d, table in ((digits1[at], table1), (digits2[at], table2)):
            if d:
                x2, y2 = table[(d if d < 128 else 256 - d) >> 1]
                x, y, z = _add(x, y, z, x2, y2 if d < 128 else P - y2)
                pause()
    return x, y, z
