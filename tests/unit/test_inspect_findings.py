"""`plugvault inspect` says what is wrong, shows digests, and reads every form of its input."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
    pkcs12,
)
from cryptography.x509 import ocsp

from evcc import exi, signature, x509
from plugvault.cases import catalogue
from plugvault.cases.pki import CasePki, point
from plugvault.cases.scene import Scene
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.inspection import inspect, read_anchors
from plugvault.inspection.report import FAILED, OK, Report, Scope, UnreadableError
from plugvault.pki import forms

NOW = 1_790_000_000
VEHICLE = ec.derive_private_key(0xABCDEF, ec.SECP256R1())
PKI = CasePki(Seed(1), NOW)
SCOPE = Scope(NOW, tuple(x509.parse(der) for _, der in PKI.anchors))
POINT = "DH public key is an uncompressed point of the curve"
SEALED = "private key belongs to the contract certificate"
SIGNED = "signature of SignedInfo"


def message(ident: str) -> bytes:
    case = catalogue.BY_ID[ident]
    return case.build(Scene(PKI, point(VEHICLE), ident, catalogue.SLOTS[ident])).message


def detail_of(report: Report, name: str) -> str:
    return next(check.detail for check in report.checks if check.check == name)


def failed(report: Report) -> list[str]:
    return [check.check for check in report.checks if check.verdict == FAILED]


@pytest.mark.parametrize(
    ("ident", "check", "words"),
    [
        ("KT-020", POINT, "compressed; the standard wants"),
        ("KT-023", POINT, "not on the curve"),
        ("KT-029", POINT, "DER"),
        ("KT-063", "encrypted private key has 48 bytes", "47 bytes; IV and two blocks are 48"),
        ("SG-040", SIGNED, "out of range"),
        ("SG-051", SIGNED, "written as DER"),
        ("SG-052", SIGNED, "only the CPS may sign"),
        ("SG-053", SIGNED, "another key signed"),
        ("SG-054", SIGNED, "grammar of the whole ISO 15118-2 schema"),
        ("SG-055", SIGNED, "hashed twice"),
        ("SG-056", "digest of eMAID", "some peers use"),
        ("SG-013", "digest of eMAID", "changed after it was signed"),
    ],
)
def test_a_failed_check_says_what_is_wrong(ident: str, check: str, words: str) -> None:
    report = inspect(message(ident), SCOPE)
    assert check in failed(report)
    assert words in detail_of(report, check)


def test_digests_are_shown_as_signed_and_as_computed() -> None:
    good = message("EN-001")
    body = exi.decode(good)["V2G_Message"]["Body"]["CertificateInstallationRes"]
    right = signature.digest("eMAID", body["eMAID"]).hex()
    assert right in detail_of(inspect(good, SCOPE), "digest of eMAID")
    detail = detail_of(inspect(message("SG-013"), SCOPE), "digest of eMAID")
    assert len(detail.partition("signed ")[2].partition(",")[0]) == 64
    assert len(detail.partition("computed ")[2]) == 64


def test_sub_cas_in_another_order_fail_and_a_file_has_no_order() -> None:
    scene = Scene(PKI, point(VEHICLE), "order", 1)
    leaf, sub2, sub1 = scene.contract().chain
    name = "contract chain: order of the certificates"
    swapped = inspect(scene.response(contract_chain=[leaf, sub1, sub2]), SCOPE)
    assert name in failed(swapped)
    assert "MO Sub1" in detail_of(swapped, name)
    assert name not in failed(inspect(message("EN-001"), SCOPE))
    assert failed(inspect(sub1 + leaf + sub2, SCOPE)) == []


def test_a_wrong_check_digit_is_a_remark() -> None:
    scene = Scene(PKI, point(VEHICLE), "digit", 1)
    report = inspect(scene.response(contract=scene.contract("DEPVT0000000013")), SCOPE)
    assert failed(report) == []
    remark = detail_of(report, "contract chain: EMAID check digit")
    assert remark == "DEPVT0000000013: 2 by Annex H; car and pools take 3 too"


def test_the_vehicles_key_opens_the_sealed_key() -> None:
    scope = replace(SCOPE, key=VEHICLE)
    report = inspect(message("EN-001"), scope)
    assert [check.verdict for check in report.checks if check.check == SEALED] == [OK]
    for ident, words in (("KT-040", "d is 0"), ("KT-045", "another contract or vehicle")):
        report = inspect(message(ident), scope)
        assert failed(report) == [SEALED]
        assert words in detail_of(report, SEALED)


def answer(status: ocsp.OCSPCertStatus) -> bytes:
    """An OCSP answer about the CPS's certificate, by its issuer."""
    moment = datetime.fromtimestamp(NOW, UTC)
    builder = ocsp.OCSPResponseBuilder().add_response(
        PKI.cps.certificate,
        PKI.cps_sub2.certificate,
        SHA256(),
        status,
        moment,
        moment + timedelta(days=1),
        moment if status == ocsp.OCSPCertStatus.REVOKED else None,
        None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, PKI.cps_sub2.certificate)
    builder = builder.certificates([PKI.cps_sub2.certificate])
    return builder.sign(PKI.cps_sub2.private_key, SHA256()).public_bytes(Encoding.DER)


def test_an_ocsp_response_is_judged() -> None:
    good = answer(ocsp.OCSPCertStatus.GOOD)
    report = inspect(good, Scope(NOW))
    assert (report.kind, failed(report)) == ("OCSP response", [])
    assert len(failed(inspect(good, Scope(NOW + 2 * 86_400)))) == 1
    assert len(failed(inspect(good, Scope(NOW - 60)))) == 1
    revoked = inspect(answer(ocsp.OCSPCertStatus.REVOKED), Scope(NOW))
    assert [c.detail for c in revoked.checks if c.verdict == FAILED] == ["revoked"]
    refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    report = inspect(refusal.public_bytes(Encoding.DER), Scope(NOW))
    assert failed(report) == ["the responder answers"]


def test_an_ocsp_response_of_another_signer_fails() -> None:
    good = answer(ocsp.OCSPCertStatus.GOOD)
    serial = PKI.cps.certificate.serial_number.to_bytes(8, "big")
    other = good.replace(serial, serial[:-1] + b"\7")
    report = inspect(other, Scope(NOW))
    assert failed(report) == ["signature of the response"]


def test_an_ocsp_request_is_named() -> None:
    builder = ocsp.OCSPRequestBuilder()
    builder = builder.add_certificate(PKI.cps.certificate, PKI.cps_sub2.certificate, SHA256())
    report = inspect(builder.build().public_bytes(Encoding.DER), Scope(NOW))
    assert report.kind == "OCSP request"
    assert report.content["serial"] == f"{PKI.cps.certificate.serial_number:x}"


PEM = PKI.v2g_root.certificate.public_bytes(Encoding.PEM)
PEM_2 = PKI.mo_root.certificate.public_bytes(Encoding.PEM)
BUNDLE = pkcs7.serialize_certificates(
    [PKI.v2g_root.certificate, PKI.mo_root.certificate], Encoding.PEM
)
DER_BUNDLE = pkcs7.serialize_certificates(
    [PKI.v2g_root.certificate, PKI.mo_root.certificate], Encoding.DER
)
BOTH = [PKI.v2g_root.der, PKI.mo_root.der]

# the forms in which people have certificates: (bytes, the certificates)
FORMS: dict[str, tuple[bytes, list[bytes]]] = {
    "PEM": (PEM, BOTH[:1]),
    "DER": (PKI.v2g_root.der, BOTH[:1]),
    "PEM with the text of openssl x509 -text": (
        b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + PEM, BOTH[:1]),
    "PEM with Bag Attributes": (
        b"Bag Attributes\n    localKeyID: 01 02\nsubject=CN = a\n\nissuer=CN = a\n" + PEM
        + b"Bag Attributes: <No Attributes>\n" + PEM_2, BOTH),
    "PEM with comments": (b"# our root\n" + PEM + b"# the operator's\n" + PEM_2, BOTH),
    "PEM with a comment that is no ASCII": ("# für Müller\n".encode() + PEM, BOTH[:1]),
    "PEM with CRLF": (PEM.replace(b"\n", b"\r\n"), BOTH[:1]),
    "PEM with CR": (PEM.replace(b"\n", b"\r"), BOTH[:1]),
    "PEM with a byte order mark": (b"\xef\xbb\xbf" + PEM, BOTH[:1]),
    "PEM in UTF-16": (PEM.decode().encode("utf-16"), BOTH[:1]),
    "PEM in one line": (PEM.replace(b"\n", b""), BOTH[:1]),
    "PEM with spaces for breaks": (PEM.replace(b"\n", b" "), BOTH[:1]),
    "PEM indented": (b"\n".join(b"    " + line for line in PEM.splitlines()), BOTH[:1]),
    "PEM with escaped breaks": (PEM.replace(b"\n", b"\\n"), BOTH[:1]),
    "a JSON string": (json.dumps((PEM + PEM_2).decode()).encode(), BOTH),
    "a JSON string with escaped slashes": (
        json.dumps(PEM.decode()).replace("/", "\\/").encode(), BOTH[:1]),
    "X509 CERTIFICATE": (PEM.replace(b"CERTIFICATE", b"X509 CERTIFICATE"), BOTH[:1]),
    "TRUSTED CERTIFICATE": (
        b"-----BEGIN TRUSTED CERTIFICATE-----\n"
        + base64.encodebytes(PKI.v2g_root.der + bytes.fromhex("3006040474727573"))
        + b"-----END TRUSTED CERTIFICATE-----\n", BOTH[:1]),
    "PKCS#7 in DER": (DER_BUNDLE, BOTH),
    "PKCS#7 in PEM": (BUNDLE, BOTH),
    "PKCS#7 in PEM with text": (b"certificates of 2026:\n" + BUNDLE, BOTH),
    "PKCS#7 in base64": (base64.encodebytes(DER_BUNDLE), BOTH),
    "base64": (base64.b64encode(PKI.v2g_root.der), BOTH[:1]),
    "base64 of PEM": (base64.encodebytes(PEM), BOTH[:1]),
    "DER after DER": (PKI.v2g_root.der + PKI.mo_root.der, BOTH),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_certificates_are_read_in_the_form_in_which_people_have_them(form: str) -> None:
    data, ders = FORMS[form]
    assert sorted(forms.certificates(data)) == sorted(ders)
    report = inspect(data, Scope(NOW))
    assert sorted(report.certificates) == sorted(ders)
    assert sorted(anchor.der for anchor in read_anchors(data)) == sorted(ders)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PEM[:-30], "no END line"),
        (PEM.replace(b"MII", b"M!I"), "no base64"),
        (b"-----BEGIN CERTIFICATE", "cut off"),
        (b"-----BEGIN X-----\nAAAA\n-----END X-----\n", "PEM of X"),
        (
            VEHICLE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "a private key",
        ),
        (
            pkcs12.serialize_key_and_certificates(
                b"leaf", VEHICLE, None, [PKI.v2g_root.certificate], BestAvailableEncryption(b"x")
            ),
            "PKCS#12 key store: `plugvault pki import",
        ),
        (b"\xfe\xed\xfe\xed" + bytes(40), "Java key store: `plugvault pki import"),
    ],
)
def test_a_form_that_holds_no_certificate_is_named(data: bytes, words: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        inspect(data, Scope(NOW))
    assert words in str(caught.value)
    with pytest.raises(forms.FormError):
        forms.certificates(data)


def test_the_key_is_an_option_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = tmp_path / "message.exi", tmp_path / "key.pem"
    file.write_bytes(message("EN-001"))
    pem = VEHICLE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(b"Bag Attributes: none\n" + pem)

    def sealed(*more: object) -> dict[str, Any]:
        with pytest.raises(SystemExit):
            main(["inspect", str(file), "--json", "--at", str(NOW), *map(str, more)])
        checks = json.loads(capsys.readouterr().out)["checks"]
        return next(check for check in checks if check["check"] == SEALED)

    assert sealed()["verdict"] == "not checked"
    assert sealed("--key", key)["verdict"] == "ok"
