"""evcc.p256 gives OpenSSL's verdict on every input."""

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from evcc import p256, p256_base, p256_curve
from plugvault.pki.verify import verify_p256

BYTES_32 = st.binary(min_size=32, max_size=32)
SCALARS = st.one_of(
    st.integers(1, p256.N - 1),
    st.integers(1, 70),
    st.integers(1, 70).map(lambda k: p256.N - k),
    st.integers(1, 255).map(lambda k: 1 << k),
    st.integers(2, 255).map(lambda k: (1 << k) - 1),
).filter(lambda k: 0 < k < p256.N)


def sign(d: int, digest: bytes) -> tuple[bytes, bytes]:
    key = ec.derive_private_key(d, ec.SECP256R1())
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256()))))
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return point, r.to_bytes(32, "big") + s.to_bytes(32, "big")


@given(SCALARS, BYTES_32)
def test_good_signatures_verify(d: int, digest: bytes) -> None:
    point, signature = sign(d, digest)
    assert p256_curve.on_curve(point)
    assert p256.verify(point, digest, signature)


@given(SCALARS, BYTES_32, st.integers(0, 160), st.integers(1, 255))
def test_one_changed_byte_never_verifies(d: int, digest: bytes, at: int, xor: int) -> None:
    point, signature = sign(d, digest)
    message = bytearray(point + digest + signature)
    message[at] ^= xor
    args = bytes(message[:65]), bytes(message[65:97]), bytes(message[97:])
    assert not p256.verify(*args)
    assert not verify_p256(*args)


@settings(max_examples=200)
@given(SCALARS, SCALARS, SCALARS)
def test_any_combination_of_scalars_sums_as_openssl_has_it(d: int, u1: int, u2: int) -> None:
    """R = u1*G + u2*Q by OpenSSL; the signature that leads there must verify."""
    k = (u1 + u2 * d) % p256.N
    point, _ = sign(d, bytes(32))
    if k == 0:
        r = 1
    else:
        numbers = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers()
        r = numbers.x % p256.N
    s = r * pow(u2, -1, p256.N) % p256.N
    digest = (u1 * s % p256.N).to_bytes(32, "big")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert p256.verify(point, digest, signature) is (k != 0)
    assert verify_p256(point, digest, signature) is (k != 0)


@given(st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=70))
def test_random_bytes_never_verify(point: bytes, digest: bytes, signature: bytes) -> None:
    assert not p256.verify(point, digest, signature)
    assert not p256_curve.on_curve(point)


@given(BYTES_32, BYTES_32)
def test_on_curve_agrees_with_openssl(x: bytes, y: bytes) -> None:
    point = b"\4" + x + y
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        assert not p256_curve.on_curve(point)
    else:
        assert p256_curve.on_curve(point)


def test_tables_of_the_base_point_are_its_odd_multiples() -> None:
    for start, table in zip((1, 1 << 128), p256_base.TABLES, strict=True):
        assert len(table) == 8 * 64
        for i in range(8):
            k = (2 * i + 1) * start
            numbers = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers()
            x, twice_y = table[64 * i : 64 * i + 32], table[64 * i + 32 : 64 * i + 64]
            assert int.from_bytes(x) == numbers.x
            assert int.from_bytes(twice_y) == 2 * numbers.y % p256.P
