"""ECDSA P-256 verification in plain Python, for boards whose token or firmware offers none.

Follows FIPS 186-5 section 6.4.2 and SEC 1 section 4.1.4: u1*G + u2*Q in one pass over the halves
of both scalars (Shamir's trick), in non-adjacent form, in Jacobian coordinates with 2*y in the
place of y. Tables hold odd multiples of a point and of 2^128 times the point, affine, so that one
formula adds all. G's are constants; those of the last keys are kept, which saves a third when a
key is used again. The result is compared with r without a field inversion. A reduction modulo P is
one division of MicroPython's big integers, which costs less there than any sum of shifted parts.

It runs in variable time and leaves its numbers on the heap: right for public data, wrong for a
private key. There is no signing and no key agreement here, and there must never be.
"""

import gc

from evcc.p256_curve import N, P, coordinates

_G_WIDTH = 5  # of the non-adjacent form: 2^(width - 2) multiples in a table
_Q_WIDTH = 4  # 5 would cost as much for its tables as it saves
_HALF = 128  # bits
_KEYS = 4  # so that an installation still has the key of the CPS from the one before

_tables = []  # (public key, its tables), the last used at the end: 600 bytes of heap for each

_gc_threshold = getattr(gc, "threshold", None)  # not on CPython


def verify(point: bytes, digest: bytes, signature: bytes, pause=None) -> bool:
    """True when `signature` is over `digest` under the public key `point`.

    point: 65 bytes, 0x04‖X‖Y. digest: 32 bytes. signature: 64 bytes, r‖s.
    pause: a function without arguments, called some 800 times at even intervals, so that a slow
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
    q = coordinates(point)
    if q is None or len(digest) != 32 or len(signature) != 64:
        return False
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N):
        return False
    from evcc import p256_base  # 1 KB that a vault which verifies does not need

    w = _inverse(s, N, pause)
    u1, u2 = int.from_bytes(digest, "big") * w % N, r * w % N
    terms = _halves(u1, _G_WIDTH, p256_base.TABLES, pause)
    terms += _halves(u2, _Q_WIDTH, _tables_of(point, q, pause), pause)
    x, _, z = _sum_of_products(terms, pause)
    # x/z^2 mod P, then mod N, must be r. N < P, so r + N may be the coordinate too. Infinity is
    # (1, 2, 0), which no r fits.
    zz = z * z % P
    return (r * zz - x) % P == 0 or (r + N < P and ((r + N) * zz - x) % P == 0)


def _go_on():
    """Do not pause."""


def _inverse(a, m, pause):
    """a^-1 mod m by Euclid. MicroPython's pow(a, -1, m) answers 0 and says nothing."""
    u, v, x, y = a, m, 1, 0
    while u != 1:
        q, rest = divmod(v, u)
        u, v, x, y = rest, u, y - q * x, x
        pause()
    return x % m


def _halves(k, width, tables, pause):
    """[(digits, table)] of both halves of k."""
    terms = []
    for half, table in ((k & (1 << _HALF) - 1, tables[0]), (k >> _HALF, tables[1])):
        terms.append((_naf(half, width), table))
        pause()
    return terms


def _naf(k, width):
    """Non-adjacent form of a half: byte i is digit i, zero or odd and below 2^(width-1), as a
    signed byte."""
    digits = bytearray(_HALF + 1)
    octets = k.to_bytes(_HALF // 8 + 2, "little")
    at = carry = 0
    while at <= _HALF:
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
    x = (a * a - (b << 1)) % P  # a shift takes less than a product
    return x, ((b - x << 1) * a - yy * yy) % P, z


def _add(x1, y1, z1, x2, y2):
    """(x1, y1/2, z1) + (x2, y2/2), the second affine (madd-2007-bl)."""
    if not z1:
        return x2, y2, 1
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    r = (zz * z1 % P * y2 - y1) % P
    if not h:  # same x: the same point, or its negative
        return (1, 2, 0) if r else _double(x1, y1, z1)
    h2 = h << 1
    i = h2 * h2 % P
    j = h * i % P
    v = x1 * i % P
    x = (r * r - j - (v << 1)) % P
    return x, (r * (v - x) - y1 * j << 1) % P, h2 * z1 % P


def _tables_of(key, point, pause):
    """The two tables of a public key, from the last ones where it is among them."""
    for entry in _tables:
        if entry[0] == key:
            _tables.remove(entry)
            break
    else:
        entry = key, _new_tables(point, _Q_WIDTH, pause)
    _tables.append(entry)
    if len(_tables) > _KEYS:
        _tables.pop(0)
    return entry[1]


def _new_tables(point, width, pause):
    """1, 3, 5, ... times an affine point, and the same of 2^128 times the point: each as x‖2*y."""
    low = _odd_multiples((point[0], 2 * point[1] % P), width, pause)
    high = low[0]
    for _ in range(_HALF):
        high = _double(*high)
        pause()
    low = _affine(low + [high], pause)
    high = _affine(_odd_multiples(low.pop(), width, pause), pause)
    return [
        b"".join([x.to_bytes(32, "big") + y.to_bytes(32, "big") for x, y in table])
        for table in (low, high)
    ]


def _odd_multiples(affine, width, pause):
    """1, 3, 5, ... times (x, 2*y), 2^(width-2) of them, in Jacobian coordinates."""
    multiples: list = [(0, 2, 0), affine + (1,)]
    for n in range(2, 1 << width - 1):
        if n & 1:
            multiples.append(_add(*(multiples[n - 1] + affine)))
        else:
            multiples.append(_double(*multiples[n // 2]))
        pause()
    return multiples[1::2]


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


def _sum_of_products(terms, pause):
    """The sum of k*A over the terms, in Jacobian coordinates. Term: digits of k, table of A."""
    x, y, z = 1, 2, 0
    for at in range(_HALF, -1, -1):
        if z:
            x, y, z = _double(x, y, z)
            pause()
        for digits, table in terms:
            d = digits[at]
            if d:
                i = (d if d < 128 else 256 - d) >> 1 << 6
                x2 = int.from_bytes(table[i : i + 32], "big")
                y2 = int.from_bytes(table[i + 32 : i + 64], "big")
                x, y, z = _add(x, y, z, x2, y2 if d < 128 else P - y2)
                pause()
    return x, y, z
