"""A vault in plain Python, for tests on every runtime: keys in memory, nothing constant-time.

It has the interface of `evcc.vault` and its promises (proof of possession, nothing left behind),
and shares no code with the real ones. Never for use: its keys are ordinary integers. A
signature in plain Python takes 0.1 s on MicroPython, so G has a table, a key keeps its public
point, and the last signatures of these vaults are known to be right.
"""

import hashlib
import os

from evcc.vault import PROVISIONING, VaultError

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_KNOWN = 16  # signatures
_known = []  # (public point, digest, signature) of the last ones that a vault here made
_sums = []  # the table of `_multiply_generator`


class SoftVault:
    def __init__(self):
        self._keys = {}
        self._points = {}  # key: public point
        self.signed = 0  # how often a private key was used

    def claim(self, owner):
        """No effect: one car alone uses this vault."""

    def generate_provisioning_key(self):
        if PROVISIONING in self._keys:
            raise VaultError("exists")
        self._keys[PROVISIONING] = _scalar()
        return self.public(PROVISIONING)

    def add(self, scalar, key=None):
        """Hold a key made elsewhere; return its id. Not part of the interface."""
        key = key or os.urandom(16)
        self._keys[key] = scalar
        self._points.pop(key, None)
        return key

    def public(self, key):
        scalar = self._key(key)
        if key not in self._points:
            self._points[key] = encoded(_affine(_multiply_generator(scalar)))
        return self._points[key]

    def sign(self, key, digest):
        if len(digest) != 32:
            raise VaultError("digest-length")
        self.signed += 1
        signature = ecdsa_sign(self._key(key), digest)
        _known.append((self.public(key), digest, signature))
        del _known[:-_KNOWN]
        return signature

    def verify(self, point, digest, signature):
        return (point, digest, signature) in _known or ecdsa_verify(point, digest, signature)

    def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public, key=b""):
        if scheme != "iso2" or aad:
            raise VaultError("scheme")
        if len(wrapped) != 48:
            raise VaultError("wrapped-length")
        peer = decoded(dh_point)
        if peer is None:
            raise VaultError("point")
        secret = multiply(self._key(PROVISIONING), peer)[0].to_bytes(32, "big")
        derived = hashlib.sha256(b"\0\0\0\1" + secret + b"\x01\x55\x56").digest()[:16]
        scalar = int.from_bytes(aes_cbc_decrypt(derived, wrapped), "big")
        if not 0 < scalar < N or encoded(_affine(_multiply_generator(scalar))) != expected_public:
            raise VaultError("key-mismatch")
        return self.add(scalar, key)

    def delete(self, key):
        self._key(key)
        del self._keys[key]
        self._points.pop(key, None)

    def keys(self):
        return [(key, self.public(key)) for key in self._keys]

    def custody(self, key):
        self._key(key)
        return "L0"

    def random(self, n):
        return os.urandom(n)

    def close(self):
        self._keys = {}

    def _key(self, key):
        if key not in self._keys:
            raise VaultError("not-found")
        return self._keys[key]


def ecdsa_sign(scalar, digest):
    while True:
        k = _scalar()
        r = _affine(_multiply_generator(k))[0] % N
        s = _inverse(k, N) * (int.from_bytes(digest, "big") + r * scalar) % N
        if r and s:
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def ecdsa_verify(point, digest, signature):
    public = decoded(point)
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if public is None or len(signature) != 64 or not (0 < r < N and 0 < s < N):
        return False
    w = _inverse(s, N)
    u1, u2 = int.from_bytes(digest, "big") * w % N, r * w % N
    total = _add(_multiply_generator(u1), _multiply(u2, public))
    return total is not None and total[2] != 0 and _affine(total)[0] % N == r


def encoded(point):
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def decoded(data):
    """(x, y), or None when it is not an uncompressed point of the curve."""
    if len(data) != 65 or data[0] != 4:
        return None
    x, y = int.from_bytes(data[1:33], "big"), int.from_bytes(data[33:], "big")
    if x >= P or y >= P or (y * y - x * x * x + 3 * x - B) % P:
        return None
    return x, y


def multiply(k, point):
    return _affine(_multiply(k, point))


def _scalar():
    while True:
        k = int.from_bytes(os.urandom(32), "big")
        if 0 < k < N:
            return k


def _inverse(a, m):
    """By Euclid; MicroPython's pow(a, -1, m) returns 0, and its pow(a, m - 2, m) is slow."""
    u, v, x, y = a, m, 1, 0
    while u != 1:
        quotient, rest = divmod(v, u)
        u, v, x, y = rest, u, y - quotient * x, x
    return x % m


def _multiply(k, point):
    total = (0, 1, 0)
    add = (point[0], point[1], 1)
    while k:
        if k & 1:
            total = _add(total, add)
        add = _double(add)
        k >>= 1
    return total


def _multiply_generator(k):
    """k*G by a comb of four teeth [Lim and Lee]: 64 doublings instead of 256."""
    if not _sums:
        _sums.extend(_comb())
    total = (0, 1, 0)
    for column in range(63, -1, -1):
        teeth = sum((k >> 64 * tooth + column & 1) << tooth for tooth in range(4))
        total = _add(_double(total), _sums[teeth])
    return total


def _comb():
    """The sums of G, 2^64*G, 2^128*G and 2^192*G: bit i of an index stands for 2^(64*i)*G."""
    tooth, sums = (G[0], G[1], 1), [(0, 1, 0)]
    for _ in range(4):
        sums += [_add(each, tooth) for each in sums]
        for _ in range(64):
            tooth = _double(tooth)
    return sums


def _affine(point):
    x, y, z = point
    inverse = _inverse(z, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P


def _double(point):
    x, y, z = point
    delta = z * z % P
    gamma = y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x3 = (alpha * alpha - 8 * beta) % P
    z3 = ((y + z) * (y + z) - gamma - delta) % P
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % P, z3


def _add(a, b):
    if not a[2]:
        return b
    if not b[2]:
        return a
    za, zb = a[2] * a[2] % P, b[2] * b[2] % P
    u1, u2 = a[0] * zb % P, b[0] * za % P
    s1, s2 = a[1] * zb * b[2] % P, b[1] * za * a[2] % P
    if u1 == u2:
        return _double(a) if s1 == s2 else (0, 1, 0)
    h, r = (u2 - u1) % P, (s2 - s1) % P
    hh = h * h % P
    hhh, v = h * hh % P, u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, h * a[2] * b[2] % P


def aes_cbc_decrypt(key, data):
    """AES-128-CBC without padding; data: IV and whole blocks."""
    keys = _round_keys(key)
    out = b""
    for at in range(16, len(data), 16):
        block = _decrypt_block(keys, data[at : at + 16])
        out += bytes(a ^ b for a, b in zip(block, data[at - 16 : at]))
    return out


def _decrypt_block(keys, block):
    state = [a ^ b for a, b in zip(block, keys[10])]
    for index in range(9, -1, -1):
        state = [_INVERSE[state[(i - 4 * (i % 4)) % 16]] for i in range(16)]
        state = [a ^ b for a, b in zip(state, keys[index])]
        if index:
            state = _unmix(state)
    return state


def _unmix(state):
    out = []
    for column in range(0, 16, 4):
        cells = state[column : column + 4]
        for row in range(4):
            value = 0
            for i in range(4):
                value ^= _times(cells[(row + i) % 4], (14, 11, 13, 9)[i])
            out.append(value)
    return out


def _round_keys(key):
    words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
    constant = 1
    for i in range(4, 44):
        word = words[-1]
        if i % 4 == 0:
            word = [_SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _times(constant, 2)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    return [[b for word in words[i : i + 4] for b in word] for i in range(0, 44, 4)]


def _times(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _boxes():
    """The S-box and its inverse, made from their definition (FIPS 197, 5.1.1)."""
    box = [0x63] * 256
    for a in range(1, 256):
        inverse = a
        for _ in range(253):  # a ** 254 is the inverse of a in GF(2^8)
            inverse = _times(inverse, a)
        value = inverse
        for shift in range(1, 5):
            value ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
        box[a] = value ^ 0x63
    back = [0] * 256
    for a in range(256):
        back[box[a]] = a
    return box, back


_SBOX, _INVERSE = _boxes()
