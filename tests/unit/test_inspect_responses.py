"""`plugvault inspect` of an installation response: each check fails for its own reason only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import signature, x509
from evcc.iso15118_2 import installation
from inspected import SIGNED_INFO, VEHICLE, body, failed, pool_rows, scope_of, verdicts
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, NOT_CHECKED, OK, Scope
from plugvault.pki.names import timestamp
from plugvault.pools import ccp
from world import EMAID, NOW, World, point


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def vehicle() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_good_response_passes_every_check(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    report = inspect(world.response(point(vehicle)), scope_of(world))
    assert report.kind == "CertificateInstallationRes"
    assert failed(report) == []
    assert verdicts(report, NOT_CHECKED) == ["private key belongs to the contract certificate"]
    for check in (
        "response code",
        "CPS chain: role CPS",
        "CPS chain: signature of Prov Sub2",
        "CPS chain: path to a trust anchor",
        "CPS chain: path lengths",
        "references are exactly the 4 needed",
        "digest of ContractSignatureCertChain",
        "digest of ContractSignatureEncryptedPrivateKey",
        "digest of DHpublickey",
        "digest of eMAID",
        "signature of SignedInfo",
        "signature as the vehicle checks it",
        "contract chain: role contract",
        "contract chain: EMAID check digit",
        "contract chain: path to a trust anchor",
        "EMAID is the certificate's",
        "DH public key is an uncompressed point of the curve",
        "encrypted private key has 48 bytes",
    ):
        assert check in verdicts(report, OK)


def test_rows_of_ccp_and_of_the_vehicle_are_in_one_order(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    report = inspect(world.response(point(vehicle)), scope_of(world))
    rows = [check.check for check in report.checks if check.check.startswith("CCP: ")]
    assert rows == [f"CCP: {name}" for name, _ in ccp.STORE]
    assert pool_rows(report, OK) == [
        *("CCP: message", "CCP: cps-path", "CCP: signature", "CCP: validity"),
        *("CCP: certificates", "CCP: contract-path", "CCP: emaid"),
        *("CCP: dh-point", "CCP: wrapped-length"),
    ]
    of_vehicle = [name for name, _ in installation.CHECKS]
    shared = [name for name, _ in ccp.STORE if name in of_vehicle and name != "revocation"]
    assert len(shared) == 7
    assert shared == [name for name in of_vehicle if name in shared]


def test_rows_that_need_the_pools_are_left_open(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    report = inspect(world.response(point(vehicle)), scope_of(world, trust=False))
    details = {check.check: check.detail for check in report.checks}
    assert "untrusted" in details["CCP: cps-path"]
    assert "untrusted" in details["CCP: contract-path"]
    assert {details[row] for row in pool_rows(report, NOT_CHECKED)} == {
        *("needs the pools", details["CCP: cps-path"], details["CCP: contract-path"]),
    }
    assert pool_rows(report, FAILED) == []


def test_no_row_runs_after_a_failed_one(world: World, vehicle: ec.EllipticCurvePrivateKey) -> None:
    report = inspect(world.response(point(vehicle), cps=world.cpo), scope_of(world))
    details = [check.detail for check in report.checks if check.check.startswith("CCP: ")]
    assert set(details[2:]) == {"an earlier check failed"}


def test_without_anchors_the_path_is_left_open(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    report = inspect(world.response(point(vehicle)), scope_of(world, trust=False))
    assert verdicts(report, NOT_CHECKED) == [
        "CPS chain: path to a trust anchor",
        "contract chain: path to a trust anchor",
        "private key belongs to the contract certificate",
    ]
    open_checks = [c for c in report.checks if c.verdict == NOT_CHECKED]
    assert open_checks[0].detail == "no trust anchor given"


def test_with_the_v2g_root_alone_the_cps_vouches_for_the_contract(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    scope = Scope(NOW, (x509.parse(world.v2g_root.der),))
    report = inspect(world.response(point(vehicle)), scope)
    assert report.ok
    assert "contract chain: path to a trust anchor" in verdicts(report, NOT_CHECKED)


def _swap_dh(message: dict[str, Any]) -> None:
    body(message)["DHpublickey"]["value"] = point(ec.generate_private_key(ec.SECP256R1()))


def _info(message: dict[str, Any]) -> dict[str, Any]:
    signed_info: dict[str, Any] = message["V2G_Message"]["Header"]["Signature"]["SignedInfo"]
    return signed_info


# A change of a good response, and all checks that then fail.
BENT: dict[str, tuple[Callable[[World], dict[str, Any]], list[str]]] = {
    "another DH key after signing": (
        lambda w: {"edit": _swap_dh},
        ["digest of DHpublickey", VEHICLE],
    ),
    "another EMAID after signing": (
        lambda w: {"edit": lambda m: body(m)["eMAID"].update(value="DEPVT0000000023")},
        ["digest of eMAID", VEHICLE, "EMAID is the certificate's"],
    ),
    "another EMAID before signing": (
        lambda w: {"edit_body": lambda b: b["eMAID"].update(value="DEPVT0000000023")},
        ["EMAID is the certificate's"],
    ),
    "a reference less": (
        lambda w: {
            "references": [
                "ContractSignatureCertChain",
                "ContractSignatureEncryptedPrivateKey",
                "DHpublickey",
            ]
        },
        ["references are exactly the 4 needed", "digest of eMAID", VEHICLE],
    ),
    "SHA-1": (
        lambda w: {
            "edit_signed_info": lambda i: i["Reference"][0]["DigestMethod"].update(
                Algorithm="http://www.w3.org/2000/09/xmldsig#sha1"
            )
        },
        ["algorithms", VEHICLE],
    ),
    "SignedInfo changed after signing": (
        lambda w: {"edit": lambda m: _info(m)["Reference"].reverse()},
        [SIGNED_INFO, VEHICLE],
    ),
    "signed by the CPO": (
        lambda w: {"cps": w.cpo},
        ["CPS chain: role CPS", "CPS chain: path to a trust anchor"],
    ),
    "a short sealed key": (
        lambda w: {"encrypted": bytes(47)},
        ["encrypted private key has 48 bytes"],
    ),
    "a compressed point": (
        lambda w: {"dh": b"\2" + bytes(32)},
        ["DH public key is an uncompressed point of the curve"],
    ),
    "a point off the curve": (
        lambda w: {"dh": b"\4" + bytes(64)},
        ["DH public key is an uncompressed point of the curve"],
    ),
    "an expired contract": (
        lambda w: {"contract": w.new_contract(EMAID, not_before=NOW - 9999, not_after=NOW - 1)},
        [
            f"contract chain: valid at {timestamp(NOW)}",
            "contract chain: path to a trust anchor",
        ],
    ),
    "a contract under a leaf": (
        lambda w: {"contract": w.contract.issue("DEPVT0000000012", dc="MO")},
        [
            "contract chain: CA marks",
            "contract chain: path lengths",
            "contract chain: path to a trust anchor",
        ],
    ),
    "a contract chain out of its root's hands": (
        lambda w: {"contract": World().contract},
        ["contract chain: path to a trust anchor"],
    ),
}


# The row of `ccp.STORE` that refuses each of them. The check digit is no reason to refuse.
REFUSED_BY_CCP = {
    "another DH key after signing": ["signature"],
    "another EMAID after signing": ["signature"],
    "another EMAID before signing": ["emaid"],
    "a reference less": ["signature"],
    "SHA-1": ["signature"],
    "SignedInfo changed after signing": ["signature"],
    "signed by the CPO": ["cps-path"],
    "a short sealed key": ["wrapped-length"],
    "a compressed point": ["dh-point"],
    "a point off the curve": ["dh-point"],
    "an expired contract": ["validity"],
    "a contract under a leaf": ["contract-path"],
    "a contract chain out of its root's hands": ["contract-path"],
}


@pytest.mark.parametrize("case", BENT)
def test_each_wrong_thing_fails_its_checks_and_no_other(
    case: str, world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    changes, expected = BENT[case]
    report = inspect(world.response(point(vehicle), **changes(world)), scope_of(world))
    assert sorted(failed(report)) == sorted(expected)
    assert not report.ok
    assert pool_rows(report, FAILED) == [f"CCP: {row}" for row in REFUSED_BY_CCP[case]]


def test_the_peers_emaid_digest_is_named(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    def typed(info: dict[str, Any]) -> None:
        value = {"Id": "id4", "value": EMAID}
        info["Reference"][3]["DigestValue"] = signature.digest("eMAID", value, True)

    report = inspect(world.response(point(vehicle), edit_signed_info=typed), scope_of(world))
    assert failed(report) == ["digest of eMAID", VEHICLE]
    detail = next(c.detail for c in report.checks if c.check == "digest of eMAID")
    assert "some peers use" in detail


def test_a_response_without_signature_fails(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    data = world.response(
        point(vehicle), edit=lambda m: m["V2G_Message"]["Header"].pop("Signature")
    )
    assert failed(inspect(data, scope_of(world))) == ["signature"]


def test_a_refusal_is_not_searched_for_a_signature(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    data = world.response(point(vehicle), code="FAILED_NoCertificateAvailable")
    report = inspect(data, scope_of(world))
    assert failed(report) == ["response code"]
    assert verdicts(report, NOT_CHECKED) == ["everything else"]
