"""The car's reading of OCSP answers, beside the host's, which has another library below it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from evcc import p256
from evcc import x509 as car_x509
from evcc.tls import ocsp
from evcc.tls.ocsp import OcspError
from fixtures.tls_stations import GOOD, REVOKED, UNKNOWN, answer
from plugvault.pki import ocsp as host
from world import CA_USAGE, DAY, NOW, Issued, World, root

sys.path.append(str(Path(__file__).parents[1] / "both"))
sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def read(data: bytes, leaf: Issued, now: int | None = NOW) -> str:
    assert leaf.issuer is not None
    parsed = [car_x509.parse(cert.der, 2048) for cert in (leaf, leaf.issuer)]
    return ocsp.read(data, *parsed, now, p256.verify)


def refused(reason: str, data: bytes, leaf: Issued, now: int | None = NOW) -> None:
    with pytest.raises(OcspError) as error:
        read(data, leaf, now)
    assert error.value.reason == reason


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])
@pytest.mark.parametrize(
    ("status", "name"), [(GOOD, "good"), (REVOKED, "revoked"), (UNKNOWN, "unknown")]
)
def test_car_and_host_read_the_same_status(
    world: World, status: object, name: str, algorithm: hashes.HashAlgorithm
) -> None:
    data = answer(world.cpo, NOW, status, algorithm=algorithm)  # type: ignore[arg-type]
    assert read(data, world.cpo) == name
    if isinstance(algorithm, hashes.SHA1):  # the host asks with SHA-1, and expects it
        assert host.read(data, world.cpo.der, world.cpo_sub2.der, NOW).status == name


def test_an_answer_about_another_certificate_is_refused(world: World) -> None:
    other = world.cpo_sub2.issue("DE*PVT*E0002", dc="CPO")
    refused("certificate", answer(other, NOW), world.cpo)
    sister = root("V2G Root", NOW).sub("CPO Sub2")  # the same name, another key
    twin = sister.issue("DE*PVT*E0001", dc="CPO", serial=world.cpo.certificate.serial_number)
    refused("certificate", answer(twin, NOW), world.cpo)


def test_an_answer_has_its_time(world: World) -> None:
    data = answer(world.cpo, NOW, age=60, lifetime=3600)
    assert read(data, world.cpo, NOW + 3540 + ocsp.SKEW) == "good"
    refused("stale", data, world.cpo, NOW + 3541 + ocsp.SKEW)
    assert read(data, world.cpo, NOW - 60 - ocsp.SKEW) == "good"
    refused("not-yet-valid", data, world.cpo, NOW - 61 - ocsp.SKEW)
    assert read(data, world.cpo, None) == "good"  # the time is not known
    endless = answer(world.cpo, NOW, age=0, lifetime=None)
    assert read(endless, world.cpo, NOW + DAY + ocsp.SKEW) == "good"
    refused("stale", endless, world.cpo, NOW + DAY + ocsp.SKEW + 1)


def test_only_the_issuer_and_its_responders_are_believed(world: World) -> None:
    sub2 = world.cpo_sub2
    for leaf_extensions in ([(SIGNING, False)], [(SIGNING, True)]):
        responder = sub2.issue("Responder", extensions=leaf_extensions)
        data = answer(world.cpo, NOW, signer=responder, certificates=[responder])
        assert read(data, world.cpo) == "good"
        assert host.read(data, world.cpo.der, sub2.der, NOW).status == "good"
    strangers = [
        sub2.issue("Responder"),
        sub2.issue("Responder", extensions=[(CLIENT, False)]),
        sub2.issue("Responder", extensions=[(SIGNING, False)], key_usage=CA_USAGE),
        sub2.issue("Responder", extensions=[(SIGNING, False)], not_after=NOW - 1),
        sub2.issue("Responder", extensions=[(SIGNING, False)], not_before=NOW + 1),
        world.cps_sub2.issue("Responder", extensions=[(SIGNING, False)]),
        root("CPO Sub2", NOW).issue("Responder", extensions=[(SIGNING, False)]),
        sub2.issue(
            "Responder",
            extensions=[
                (SIGNING, False),
                (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True),
            ],
        ),
    ]
    for stranger in strangers:
        refused(
            "signature",
            answer(world.cpo, NOW, signer=stranger, certificates=[stranger]),
            world.cpo,
        )
    unnamed = sub2.issue("Responder", extensions=[(SIGNING, False)])
    refused("signature", answer(world.cpo, NOW, signer=unnamed), world.cpo)


def test_a_refusal_of_the_responder_is_no_answer(world: World) -> None:
    refused("unsuccessful", bytes.fromhex("30030a0106"), world.cpo)


def test_every_changed_byte_of_an_answer_is_noticed(world: World) -> None:
    data = answer(world.cpo, NOW)
    for at in range(len(data)):
        with pytest.raises(OcspError):
            read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], world.cpo)


def test_no_part_of_an_answer_is_an_answer(world: World) -> None:
    data = answer(world.cpo, NOW)
    for size in range(len(data)):
        refused("format", data[:size], world.cpo)
    refused("format", data + b"\0", world.cpo)
    refused("format", b"\x30\x82\x20\x01" + bytes(8193), world.cpo)


def test_the_fuzz_target_holds_for_a_while() -> None:
    import ocsp_target

    from noise import Chance, spoil

    chance = Chance(7)
    for seed in ocsp_target.seeds():
        ocsp_target.target(seed)
        for per_thousand in (1, 10, 50) * 20:
            ocsp_target.target(spoil(seed, chance, per_thousand))
