"""evcc.p256 against cases that OpenSSL judged: tests/vectors/p256.json, tools/make_vectors.py."""

import gc
import json

from evcc import p256, p256_curve
from evcc.vault import Vault
from helpers import VECTORS, raises, skip


def _cases():
    """Each line but the first and the last is a case: no board has room for all of them."""
    with open(VECTORS + "p256.json", "rb") as file:
        for line in file:
            if len(line) > 2:
                name, point, digest, signature, ok = json.loads(line.rstrip(b",\n"))
                hexes = point, digest, signature
                yield [name] + [bytes.fromhex(text) for text in hexes] + [ok]


def test_every_case_is_judged_as_openssl_does():
    seen = set()
    for name, point, digest, signature, ok in _cases():
        assert p256.verify(point, digest, signature) is ok, name
        seen.add(name)
    for name in ("sum is infinity", "u1*G = u2*Q at once", "r + n is the coordinate", "r zero"):
        assert name in seen


def test_verification_pauses_at_even_intervals():
    _, point, digest, signature, _ = next(_cases())
    pauses, counts = [], []
    del p256._tables[:]
    for _ in range(2):
        before = len(pauses)
        assert p256.verify(point, digest, signature, lambda: pauses.append(1))
        counts.append(len(pauses) - before)
    # Twice 128 doublings, some 95 additions, three inversions of some 150 steps, for a new key.
    assert 750 < counts[0] < 950
    assert 330 < counts[1] < 430  # the tables of a known key are there


def test_known_key_gets_the_verdicts_of_a_new_one():
    del p256._tables[:]
    for name, point, digest, signature, ok in _cases():
        for _ in range(2):
            assert p256.verify(point, digest, signature) is ok, name
        assert len(p256._tables) <= 4


def test_tables_of_the_last_four_keys_are_kept():
    points = []
    for _, point, digest, signature, ok in _cases():
        if ok and point not in points:
            points.append(point)
            p256.verify(point, digest, signature)
            if len(points) == 6:
                break
    assert [key for key, _ in p256._tables] == points[2:]


def test_collection_of_garbage_is_set_back_after_a_verification():
    if not hasattr(gc, "threshold"):
        skip("only MicroPython has gc.threshold")

    def gone():
        assert gc.threshold() == -1
        raise OSError(5)

    _, point, digest, signature, _ = next(_cases())
    before = gc.threshold()
    try:
        gc.threshold(16384)
        assert p256.verify(point, digest, signature)
        assert gc.threshold() == 16384
        raises(OSError, None, p256.verify, point, digest, signature, gone)
        assert gc.threshold() == 16384
    finally:
        gc.threshold(before)


def test_error_of_a_pause_ends_the_verification():
    def gone():
        raise OSError(5)

    _, point, digest, signature, _ = next(_cases())
    assert raises(OSError, None, p256.verify, point, digest, signature, gone)


def test_vault_without_a_verification_of_its_own_has_this_one():
    vault, pauses = Vault(), set()
    vault.pause = lambda: pauses.add(1)
    for name, point, digest, signature, ok in _cases():
        assert vault.verify(point, digest, signature) is ok, name
    assert pauses


def test_inputs_of_other_lengths_do_not_verify():
    _, point, digest, signature, ok = next(_cases())
    assert ok
    assert not p256.verify(point, digest, signature[:63])
    assert not p256.verify(point, digest, signature[:32] + b"\0" + signature[32:])
    assert not p256.verify(point, b"\0" + digest, signature)
    assert not p256.verify(point, digest, signature + b"\0")
    assert not p256.verify(point, digest[:31], signature)
    assert not p256.verify(point, digest + b"\0", signature)
    assert not p256.verify(point[:64], digest, signature)
    assert not p256.verify(point + b"\0", digest, signature)
    assert not p256.verify(b"", b"", b"")


def test_on_curve_takes_uncompressed_points_only():
    _, point, _, _, _ = next(_cases())
    assert p256_curve.on_curve(point)
    compressed = bytes([2 + (point[64] & 1)])
    assert not p256_curve.on_curve(compressed + point[1:33])
    assert not p256_curve.on_curve(compressed + point[1:])
    assert not p256_curve.on_curve(b"\x06" + point[1:])
    assert not p256_curve.on_curve(b"\0")
    assert not p256_curve.on_curve(b"")
    assert not p256_curve.on_curve(b"\4" + bytes(64))
    assert not p256_curve.on_curve(b"\4" + point[33:] + point[1:33])


def test_on_curve_refuses_coordinates_beyond_the_field():
    # Points with one small coordinate: that coordinate plus P is the same number modulo P.
    b = (p256_curve._B + 5 * 5 * 5 - 3 * 5) % p256.P
    small_x = (5, pow(b, (p256.P + 1) // 4, p256.P))
    zero_x = (0, pow(p256_curve._B, (p256.P + 1) // 4, p256.P))
    small_y = (0xD7325D7646CD60D80A92738CEB345F844CFFAF35841022CAB176F692DE8DE1D7, 5)
    for (x, y), dx, dy in ((small_x, p256.P, 0), (zero_x, p256.P, 0), (small_y, 0, p256.P)):
        assert p256_curve.on_curve(b"\4" + x.to_bytes(32, "big") + y.to_bytes(32, "big"))
        beyond = (x + dx).to_bytes(32, "big") + (y + dy).to_bytes(32, "big")
        assert not p256_curve.on_curve(b"\4" + beyond)
