"""The signed bundle: its contents, its signed parts, and the wiping of the plain key."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bundles import PUBLISHED_NEGATIVE, VEHICLE, WORLD, contract, opened, signed
from evcc import exi, signature
from fixtures.pools import authority
from plugvault.contract.iso15118_2 import issue as contract_issue
from plugvault.contract.iso15118_2 import response
from plugvault.contract.iso15118_2.bundle import NO_SESSION, SIGNED, to_exi
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.contract.iso15118_2.response import (
    ResponseError,
    negative,
    negative_update,
    with_session_id,
)
from plugvault.pki.verify import verify_p256
from world import EMAID, NOW


def test_the_sealed_key_is_the_certificates_key():
    bundle = contract()
    scalar = int.from_bytes(opened(bundle.dh_point, bundle.wrapped, VEHICLE), "big")
    certificate = x509.load_der_x509_certificate(bundle.certificate)
    assert ec.derive_private_key(scalar, ec.SECP256R1()).public_key() == certificate.public_key()


def test_a_bundle_goes_through_exi_and_its_signature_holds():
    bundle = response.read(exi.decode(to_exi(signed())))
    assert [name for _, name, _ in bundle.signed] == [
        "ContractSignatureCertChain",
        "ContractSignatureEncryptedPrivateKey",
        "DHpublickey",
        "eMAID",
    ]
    assert [mark for mark, _, _ in bundle.signed] == ["id1", "id2", "id3", "id4"]
    assert (bundle.contract.emaid, bundle.cps) == (EMAID, WORLD.cps.der)
    assert list(bundle.cps_subs) == WORLD.cps.chain[1:]
    assert bundle.contract.subs == (WORLD.mo_sub2.der, WORLD.mo_sub1.der)
    parts = list(bundle.signed)
    assert not signature.verify(bundle.signature, parts, WORLD.cps.point, verify_p256)


@pytest.mark.parametrize("length", range(1, 9))
def test_a_changed_session_id_equals_decoding_and_encoding_again(length: int):
    message = signed()
    session_id = bytes(range(0xF8, 0xF8 + length))
    changed = with_session_id(to_exi(message), session_id)
    message["V2G_Message"]["Header"]["SessionID"] = session_id
    assert changed == to_exi(message)
    assert with_session_id(changed, NO_SESSION) == with_session_id(to_exi(message), NO_SESSION)


@pytest.mark.parametrize("session_id", [b"", bytes(9)])
def test_a_session_id_has_1_to_8_bytes(session_id: bytes):
    with pytest.raises(ResponseError, match="session-id"):
        with_session_id(to_exi(signed()), session_id)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x98", bytes(64), b"\x80\x98\xff" + bytes(64), b"\x80\x98\x3f" + bytes(64)]
)
def test_only_a_v2g_message_gets_a_session_id(data: bytes):
    with pytest.raises(ResponseError, match="format"):
        with_session_id(data, b"12345678")


def negative_body(message: bytes, name: str) -> dict[str, Any]:
    body: dict[str, Any] = exi.decode(message)["V2G_Message"]["Body"][name]
    assert body["ResponseCode"] == "FAILED_NoCertificateAvailable"
    return body


NAMES = {"CertificateInstallationRes": negative, "CertificateUpdateRes": negative_update}


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_response_has_the_lengths_and_ids_of_the_schema(name: str):
    """The published one has an eMAID of one character and Ids that are no NCName."""
    message = NAMES[name](b"12345678")
    assert exi.decode(message)["V2G_Message"]["Header"]["SessionID"] == b"12345678"
    body = negative_body(message, name)
    assert 14 <= len(body["eMAID"]["value"]) <= 15
    ids = [body[element]["Id"] for _, element in SIGNED]
    assert ids == ["id1", "id2", "id3", "id4"]
    assert body.get("RetryCounter") == (None if name == "CertificateInstallationRes" else -1)


def test_the_published_negative_response_is_still_read():
    assert negative_body(PUBLISHED_NEGATIVE, "CertificateInstallationRes")["eMAID"]["value"] == "0"
    assert len(PUBLISHED_NEGATIVE) == 58


@pytest.mark.parametrize("message", [PUBLISHED_NEGATIVE, negative(b"\0")])
def test_a_negative_response_is_not_taken_for_a_contract(message: bytes):
    with pytest.raises(ResponseError, match="FAILED_NoCertificateAvailable"):
        response.read(exi.decode(message))


def test_the_plain_key_is_overwritten_when_it_is_sealed(monkeypatch: pytest.MonkeyPatch):
    scalars: list[bytearray] = []
    copies: list[bytes] = []

    def spy(scalar, vehicle):
        scalars.append(scalar)
        copies.append(bytes(scalar))
        return real(scalar, vehicle)

    real = contract_issue.seal
    monkeypatch.setattr(contract_issue, "seal", spy)
    bundle = contract()
    assert scalars == [bytearray(32)]
    assert copies[0] != bytes(32)
    output = repr(bundle).encode() + bundle.certificate + bundle.wrapped + bundle.dh_point
    assert copies[0] not in output
    assert copies[0].hex().encode() not in output


def test_the_plain_key_is_overwritten_when_sealing_fails(monkeypatch: pytest.MonkeyPatch):
    scalars: list[bytearray] = []

    def fail(scalar, vehicle):
        scalars.append(scalar)
        raise RuntimeError("no sealing today")

    monkeypatch.setattr(contract_issue, "seal", fail)
    with pytest.raises(RuntimeError):
        contract()
    assert scalars == [bytearray(32)]


def test_a_vehicle_on_another_curve_is_refused():
    key = ec.generate_private_key(ec.SECP384R1())
    assert WORLD.oem_sub2.key is not None
    vehicle = WORLD.oem_sub2.issue("PVTP0000000000009", dc="OEM", key=key)
    with pytest.raises(ValueError, match="P-256"):
        issue_contract(EMAID, vehicle.der, authority(WORLD.mo_sub2), NOW)
