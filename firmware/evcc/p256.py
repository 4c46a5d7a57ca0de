"""ECDSA P-256 verification in plain Python, for boards whose token or firmware offers none.

Follows FIPS 186-5 section 6.4.2 and SEC 1 section 4.1.4. Jacobian coordinates; u1*G + u2*Q in one
pass over both scalars (Shamir's trick) in non-adjacent form of width 5; the result is compared
with r without a field inversion.

It runs in variable time and leaves its numbers on the heap: right for public data, wrong for a
private key. There is no signing and no key agreement here, and there must never be.
"""

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_WIDTH = 5  # 6 would save 2 % of the time and double the tables

_g_multiples = []  # filled at the first verification, kept: 2 KiB of heap on a 32-bit board


def on_curve(point: bytes) -> bool:
    """True when `point` is 65 bytes, 0x04‖X‖Y, on the curve, coordinates reduced, not infinity."""
    return _decode(point) is not None


def verify(point: bytes, digest: bytes, signature: bytes, pause=None) -> bool:
    """True when `signature` is over `digest` under the public key `point`.

    point: 65 bytes, 0x04‖X‖Y. digest: 32 bytes. signature: 64 bytes, r‖s.
    pause: a function without arguments, called after each operation on points: some 340 times, so
    that a slow board can serve its link in between. Its errors end the verification.
    False for everything else: wrong lengths, a point off the curve, r or s zero or not below N.
    """
    q = _decode(point)
    if q is None or len(digest) != 32 or len(signature) != 64:
        return False
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N):
        return False
    if not _g_multiples:
        _g_multiples.extend(_affine(_odd_multiples(_G)))
    w = _inverse(s, N)
    x, _, z = _sum_of_products(
        _naf(int.from_bytes(digest, "big") * w % N),
        _g_multiples,
        _naf(r * w % N),
        _odd_multiples(q),
        pause or _go_on,
    )
    # x/z^2 mod P, then mod N, must be r. N < P, so r + N may be the coordinate too. Infinity is
    # (1, 1, 0), which no r fits.
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


def _inverse(a, m):
    """a^-1 mod m by Euclid. MicroPython's pow(a, -1, m) answers 0 and says nothing."""
    u, v, x, y = a, m, 1, 0
    while u != 1:
        q = v // u
        u, v, x, y = v - q * u, u, y - q * x, x
    return x % m


def _naf(k):
    """Non-adjacent form of k: byte i is digit i, zero or odd, as a signed byte."""
    digits = bytearray(264)
    full = 1 << _WIDTH
    at = 0
    while k:
        if k & 1:
            d = k & (full - 1)
            k >>= _WIDTH
            if d >= full >> 1:
                d -= full
                k += 1
            digits[at] = d & 0xFF
            at += _WIDTH
        else:
            k >>= 1
            at += 1
    return digits


def _double(x, y, z):
    """2*(x, y, z), for a = -3 (dbl-2001-b of the Explicit-Formulas Database). Infinity: z = 0."""
    zz = z * z % P
    yy = y * y % P
    b = 4 * x * yy % P
    a = 3 * (x - zz) * (x + zz) % P
    z = 2 * y * z % P
    x = (a * a - 2 * b) % P
    return x, (a * (b - x) - 8 * yy * yy) % P, z


def _add(x1, y1, z1, x2, y2, z2, zz2, zzz2):
    """(x1, y1, z1) + (x2, y2, z2), given z2^2 and z2^3. The second is never infinity."""
    if not z1:
        return x2, y2, z2
    zz1 = z1 * z1 % P
    u = x1 * zz2 % P
    h = (x2 * zz1 - u) % P
    s = y1 * zzz2 % P
    r = (y2 * zz1 * z1 - s) % P
    if not h:  # same x: the same point, or its negative
        return (1, 1, 0) if r else _double(x1, y1, z1)
    hh = h * h % P
    hhh = h * hh % P
    v = u * hh % P
    x = (r * r - hhh - 2 * v) % P
    return x, (r * (v - x) - s * hhh) % P, z1 * z2 * h % P


def _entry(x, y, z):
    zz = z * z % P
    return x, y, z, zz, zz * z % P


def _odd_multiples(point):
    """1, 3, 5, ... times an affine point, each as (x, y, z, z^2, z^3)."""
    current = _entry(point[0], point[1], 1)
    table = [current]
    twice = _entry(*_double(point[0], point[1], 1))
    for _ in range((1 << (_WIDTH - 2)) - 1):
        current = _entry(*_add(current[0], current[1], current[2], *twice))
        table.append(current)
    return table


def _affine(table):
    """The same points with z = 1, so that adding them costs little."""
    out = []
    for x, y, z, _, _ in table:
        i = _inverse(z, P)
        ii = i * i % P
        out.append((x * ii % P, y * ii * i % P, 1, 1, 1))
    return out


def _sum_of_products(digits1, table1, digits2, table2, pause):
    """k1*A + k2*B in Jacobian coordinates, from digits and odd multiples of each."""
    x, y, z = 1, 1, 0
    at = len(digits1)
    while at:
        at -= 1
        if z:
            x, y, z = _double(x, y, z)
            pause()
        for d, table in ((digits1[at], table1), (digits2[at], table2)):
            if d:
                if d < 128:
                    x2, y2, z2, zz2, zzz2 = table[d >> 1]
                else:
                    x2, y2, z2, zz2, zzz2 = table[(256 - d) >> 1]
                    y2 = P - y2
                x, y, z = _add(x, y, z, x2, y2, z2, zz2, zzz2)
                pause()
    return x, y, z
