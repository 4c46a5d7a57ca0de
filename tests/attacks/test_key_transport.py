"""Key transport: the requirements of a sealed key, and the rejection of every other."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi
from evcc.iso15118_2 import installation
from evcc.iso15118_2.installation import InstallationRequest, RejectedError
from evcc.vault import PROVISIONING, VaultError
from evcc.vault.schemes import SCHEMES
from fixtures.cars import Car, Spy
from world import EMAID, NOW, SESSION_ID, point, seal


def some_point() -> bytes:
    return point(ec.generate_private_key(ec.SECP256R1()))


def test_rejects_mode_2_wrap_in_minus_20_and_reverse(car: Car) -> None:
    """A wrap of -2 opened as -20; the 94 bytes of -20 in a message of -2 are a case of the
    catalogue."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    wrapped = seal(bytes(31) + b"\1", ephemeral, car.point)
    before = car.stored()
    with pytest.raises(VaultError) as caught:
        car.vault.open_contract_key("iso20", point(ephemeral), wrapped, b"", some_point())
    assert caught.value.reason == "scheme"
    assert car.stored() == before


def test_no_private_key_operation_before_all_public_checks_pass(car: Car) -> None:
    """After the failure of any public check the vault was asked for verifications only."""
    world, point_ = car.world, car.point
    installed = world.response(point_)
    first_body = exi.decode(installed)["V2G_Message"]["Body"]["CertificateInstallationRes"]
    newer = world.new_contract(EMAID, not_before=NOW - 60)
    failing = {
        "decode": b"\x80\x98",
        "response-code": world.response(point_, code="FAILED"),
        "asked": world.response(point_, session_id=bytes(8)),
        "revocation": world.response(point_),
        "cps-path": world.response(point_, cps=world.cpo),
        "signature": world.response(point_, references=("DHpublickey", "eMAID")),
        "contract-path": world.response(
            point_, contract=world.new_contract(EMAID, not_after=NOW - 1)
        ),
        "emaid": world.response(point_, emaid="DEPVT0000000Z27"),
        "admitted": installed,
        "dh-point": world.response(point_, contract=newer, dh=point_),
        "wrapped-length": world.response(point_, contract=newer, encrypted=bytes(47)),
        "envelope": world.response(point_, contract=newer, dh=first_body["DHpublickey"]["value"]),
    }
    assert list(failing) == [name for name, _ in installation.CHECKS]
    car.installs(installed)
    for name, response in failing.items():
        spy = Spy(car.vault)
        car.trust.revocation.until = NOW - 1 if name == "revocation" else 0
        passed: list[str] = []
        with pytest.raises(RejectedError):
            car.install(response, vault=spy, report=passed.append)
        assert [*passed, name] == list(failing)[: len(passed) + 1]
        assert set(spy.calls) <= {"verify", "public"}, name
    spy = Spy(car.vault)
    car.install(world.response(point_, contract=newer), vault=spy)
    private = [call for call in spy.calls if call not in ("verify", "public")]
    assert private == ["random", "open_contract_key", "custody", "delete"]


def test_a_vault_that_fails_in_the_public_part_rejects(car: Car) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            raise VaultError("unavailable")

    car.rejects("vault", "unavailable", car.world.response(car.point), vault=Broken())


def test_the_provisioning_key_survives_every_rejection(car: Car) -> None:
    car.rejects("vault", "key-mismatch", car.world.response(car.point, scalar=bytes(31) + b"\1"))
    assert car.vault.public(PROVISIONING) == car.point


def test_a_rejection_leaves_the_request_used_up(car: Car) -> None:
    request = InstallationRequest.at_station(SESSION_ID)
    failed = car.world.response(car.point, code="FAILED")
    car.rejects("response-code", None, failed, request=request)
    car.rejects("unsolicited", None, car.world.response(car.point), request=request)


def test_gcm_tag_truncation_rejected() -> None:
    """AES-GCM comes with ISO 15118-20; a scheme that has it fails here until it has this test."""
    assert {scheme.cipher for scheme in SCHEMES.values()} == {"aes-cbc"}
    pytest.skip("not yet: ISO 15118-20")
