"""Sealing a contract key, against an opening written from the standard with hashlib alone."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bundles import opened
from plugvault.contract.iso15118_2.seal import seal

P256 = ec.SECP256R1()


def test_the_opening_knows_the_answer():
    """A complete ISO 15118-2 key transport computed with OpenSSL's SSKDF."""
    vehicle = ec.derive_private_key(
        0x0EB42BF9607EF43F89A62733F850710E239908A96D7734A431A055F8F5DC32FC, P256
    )
    point = bytes.fromhex(
        "04d06dcab5d8f3e721696536b832af880393cfe5a873a0e5ec37c1b978d6aa8235"
        "51dc1677241d9e279bb8820edd7f9928fdf17dbb7d183fd9514324c8bd8e3bae"
    )
    wrapped = bytes.fromhex(
        "62c83a98f8522fa1b17b42eab66204673f3ecfc239133c4392cb2ee16a8dc4f3"
        "81293250d71f92663200677ec8b375a8"
    )
    scalar = "3c7cb44acd6791307a1cbe33a7dd51bb861900a697bf5e97e0e248a9c997dbe7"
    assert opened(point, wrapped, vehicle).hex() == scalar


@pytest.mark.parametrize(
    "scalar", [bytes(31) + b"\x01", b"\x00" + b"\xff" * 31, bytes([0x80]) + bytes(31)]
)
def test_only_the_vehicle_opens_it_and_leading_zeros_stay(scalar: bytes):
    vehicle = ec.generate_private_key(P256)
    sealed = seal(scalar, vehicle.public_key())
    assert (len(sealed.dh_point), sealed.dh_point[0], len(sealed.wrapped)) == (65, 4, 48)
    assert opened(sealed.dh_point, sealed.wrapped, vehicle) == scalar
    other_key = ec.generate_private_key(P256)
    assert opened(sealed.dh_point, sealed.wrapped, other_key) != scalar


def test_a_shared_secret_with_leading_zeros_keeps_its_width():
    vehicle = ec.generate_private_key(P256)
    scalar = bytes(range(32))
    for _ in range(3000):
        sealed = seal(scalar, vehicle.public_key())
        public = ec.EllipticCurvePublicKey.from_encoded_point(P256, sealed.dh_point)
        if vehicle.exchange(ec.ECDH(), public)[0] == 0:
            break
    else:
        pytest.fail("3000 secrets without a leading zero")
    assert opened(sealed.dh_point, sealed.wrapped, vehicle) == scalar


def test_ephemeral_key_and_iv_never_reused():
    vehicle = ec.generate_private_key(P256).public_key()
    sealed = [seal(bytes(32), vehicle) for _ in range(64)]
    assert len({box.dh_point for box in sealed}) == 64
    assert len({box.wrapped[:16] for box in sealed}) == 64


@pytest.mark.parametrize("length", [0, 31, 33, 48])
def test_a_scalar_of_another_width_is_refused(length: int):
    with pytest.raises(ValueError, match="32 bytes"):
        seal(bytes(length), ec.generate_private_key(P256).public_key())
