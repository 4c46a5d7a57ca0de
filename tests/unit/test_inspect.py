"""`plugvault inspect` recognizes its input, and each check fails for its own reason only."""

import base64
import json
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from evcc import csr, exi, signature
from inspected import (
    HUBJECT_AT,
    MADE,
    MADE_AT,
    SIGNED_INFO,
    VEHICLE,
    as_json,
    failed,
    made,
    pool_rows,
    scope_of,
    verdicts,
)
from plugvault import exi_json
from plugvault.cli import inspect as cli
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, NOT_CHECKED, OK, Scope, UnreadableError
from plugvault.inspection.show import show
from plugvault.pki.names import timestamp
from world import EMAID, NOW, PCID, World, point


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def vehicle() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


# --- other messages ---


def _message(name: str, value: dict[str, Any], header: dict[str, Any] | None = None) -> bytes:
    message = {
        "V2G_Message": {"Header": {"SessionID": bytes(8), **(header or {})}, "Body": {name: value}}
    }
    return exi.encode(message)


def _request(world: World, key: ec.EllipticCurvePrivateKey) -> tuple[dict[str, Any], Any]:
    leaf = world.provisioning(point(key))
    value = {
        "Id": "id1",
        "OEMProvisioningCert": leaf.der,
        "ListOfRootCertificateIDs": {
            "RootCertificateID": [{"X509IssuerName": "CN=V2G Root", "X509SerialNumber": 1}]
        },
    }

    def sign_digest(digest: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric import utils
        from cryptography.hazmat.primitives.hashes import SHA256

        der = key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256())))
        r, s = utils.decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    signed = signature.sign([("id1", "CertificateInstallationReq", value)], sign_digest)
    return value, signed


def test_a_request_is_verified_with_the_certificate_inside(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    value, signed = _request(world, vehicle)
    report = inspect(
        _message("CertificateInstallationReq", value, {"Signature": signed}), scope_of(world)
    )
    assert report.kind == "CertificateInstallationReq"
    assert failed(report) == []
    assert "provisioning certificate: role provisioning" in verdicts(report, OK)
    assert {SIGNED_INFO, "digest of CertificateInstallationReq"} <= set(verdicts(report, OK))
    assert pool_rows(report, OK) == ["CCP: message", "CCP: certificate", "CCP: signature"]
    value["ListOfRootCertificateIDs"]["RootCertificateID"][0]["X509SerialNumber"] = 2
    data = _message("CertificateInstallationReq", value, {"Signature": signed})
    assert failed(inspect(data, scope_of(world))) == [
        "digest of CertificateInstallationReq",
        VEHICLE,
    ]


def test_payment_details_are_a_contract_chain(world: World) -> None:
    ders = world.contract.chain
    value = {
        "eMAID": EMAID,
        "ContractSignatureCertChain": {
            "Certificate": ders[0],
            "SubCertificates": {"Certificate": ders[1:]},
        },
    }
    report = inspect(_message("PaymentDetailsReq", value), scope_of(world))
    assert failed(report) == []
    assert "contract chain: path to a trust anchor" in verdicts(report, OK)
    value["eMAID"] = "DEPVT0000000023"
    report = inspect(_message("PaymentDetailsReq", value), scope_of(world))
    assert failed(report) == ["EMAID is the certificate's"]


def test_an_authorization_request_is_checked_without_its_certificate() -> None:
    value = {"Id": "id1", "GenChallenge": bytes(16)}
    signed = signature.sign([("id1", "AuthorizationReq", value)], lambda digest: bytes(64))
    report = inspect(_message("AuthorizationReq", value, {"Signature": signed}), Scope(NOW))
    assert failed(report) == []
    assert "digest of AuthorizationReq" in verdicts(report, OK)
    assert verdicts(report, NOT_CHECKED) == [SIGNED_INFO]


def test_other_schemas_and_messages_read() -> None:
    value = {
        "AppProtocol": [
            {
                "ProtocolNamespace": "urn:iso:15118:2:2013:MsgDef",
                "VersionNumberMajor": 2,
                "VersionNumberMinor": 0,
                "SchemaID": 1,
                "Priority": 1,
            }
        ]
    }
    data = exi.encode({"supportedAppProtocolReq": value}, "sap")
    report = inspect(data, Scope(NOW))
    assert (report.kind, report.content["schema"]) == ("supportedAppProtocolReq", "sap")
    assert report.content["message"]["supportedAppProtocolReq"] == value
    report = inspect(_message("SessionSetupReq", {"EVCCID": bytes(6)}), Scope(NOW))
    assert report.kind == "SessionSetupReq"
    assert report.ok


def test_zero_bytes_after_a_message_are_told(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    report = inspect(world.response(point(vehicle)) + b"\0", scope_of(world))
    assert report.ok
    assert report.checks[-1].detail == "1 zero bytes after it"


# --- V2GTP ---


def test_each_v2gtp_frame_is_checked() -> None:
    payload = _message("SessionSetupReq", {"EVCCID": bytes(6)})
    frame = b"\x01\xfe\x80\x01" + len(payload).to_bytes(4, "big") + payload
    report = inspect(frame, Scope(NOW))
    assert (report.kind, failed(report)) == ("V2GTP, SessionSetupReq", [])
    assert failed(inspect(frame[:-1], Scope(NOW))) == ["V2GTP length", "payload readable"]
    both = inspect(frame + frame, Scope(NOW))
    assert (both.kind, len(both.content["frames"])) == ("V2GTP frames", 2)
    assert "frame 2 (SessionSetupReq): V2GTP length" in verdicts(both, OK)
    other_type = b"\x01\xfe\x70\x02" + frame[4:]
    assert failed(inspect(other_type, Scope(NOW))) == ["V2GTP payload type"]
    assert failed(inspect(frame + b"garbage!", Scope(NOW))) == ["frame 2 (broken): V2GTP header"]


def test_sdp_is_named() -> None:
    request = bytes.fromhex("01fe9000000000020010")
    assert inspect(request, Scope(NOW)).content["security"] == "TLS"
    address = bytes.fromhex("fe80000000000000020000fffe000001")
    answer = bytes.fromhex("01fe900100000014") + address + b"\xea\x60\x10\x00"
    report = inspect(answer, Scope(NOW))
    assert report.content["port"] == 60000
    assert (report.content["security"], report.content["transport"]) == ("none", "TCP")


# --- certificates ---


def test_a_chain_is_read_in_any_order() -> None:
    report = made("sub1", "contract", "root", "sub2")
    assert report.kind == "certificate chain"
    assert failed(report) == []
    assert "path to a trust anchor" in verdicts(report, OK)
    assert report.content["certificates"][1]["type"] == "contract certificate"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("contract_expired", "sub2", "sub1"), ["valid at 2026-01-01T00:00:00Z"]),
        (("contract_critical", "sub2", "sub1"), ["no unknown critical extension"]),
        (("contract_too_deep", "short2", "short1"), ["path lengths"]),
        (("contract_by_no_flag", "no_flag", "sub1"), ["CA marks"]),
        (("contract_by_no_usage", "no_usage", "sub1"), ["CA marks"]),
        (("contract_by_impostor", "sub2", "sub1"), ["signature of DEABC123456789Y"]),
        (("cps_no_dc",), []),
    ],
)
def test_each_broken_chain_fails_its_checks(names: tuple[str, ...], expected: list[str]) -> None:
    report = made(*names)
    assert failed(report) == [*expected, "path to a trust anchor"]


def test_a_key_the_vehicle_cannot_use_is_described_and_fails() -> None:
    report = inspect(MADE["contract_p384"], Scope(MADE_AT))
    assert report.content["certificates"][0]["key"] == "secp384r1"
    assert failed(report) == ["certificates readable"]
    assert "curve" in report.checks[0].detail


def test_a_forged_root_is_seen() -> None:
    report = inspect(MADE["forged_root"], Scope(MADE_AT))
    assert failed(report) == ["signature of Forged"]
    assert inspect(MADE["root"], Scope(MADE_AT)).ok


def test_a_heap_of_certificates_is_sorted_into_paths() -> None:
    report = made("contract", "sub2", "sub1", "other_root")
    assert "DEABC123456789Y: path to a trust anchor" in verdicts(report, OK)
    assert failed(report) == ["Other Root: path to a trust anchor"]


def test_a_certificate_over_the_schemas_size_fails(world: World) -> None:
    from cryptography import x509 as builder

    policies = builder.UnrecognizedExtension(builder.ObjectIdentifier("1.2.3"), bytes(600))
    big = world.cps_sub2.issue("CPS Big", dc="CPS", extensions=[(policies, False)])
    assert failed(inspect(big.der, Scope(NOW))) == ["sizes of at most 800 bytes"]


def test_a_certificate_request_is_checked(vehicle: ec.EllipticCurvePrivateKey) -> None:
    def sign_nothing(digest: bytes) -> bytes:
        return bytes(31) + b"\1" + bytes(31) + b"\1"

    bad = csr.build(PCID, "Plug Test", None, point(vehicle), sign_nothing)
    report = inspect(bad, Scope(NOW))
    assert report.kind == "certificate request"
    assert failed(report) == ["request as an EST server takes it"]


# --- forms ---


def test_every_form_of_one_certificate_is_the_same() -> None:
    from cryptography import x509 as reference
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    der = MADE["sub2"]
    loaded = reference.load_der_x509_certificate(der)
    forms = {
        "DER": der,
        "PEM": loaded.public_bytes(Encoding.PEM),
        "hex": der.hex().encode() + b"\n",
        "hex with colons": der.hex(":").upper().encode(),
        "base64": base64.encodebytes(der),
        "base64 of PEM": base64.b64encode(loaded.public_bytes(Encoding.PEM)),
        "PKCS#7": pkcs7.serialize_certificates([loaded], Encoding.DER),
        "EST": base64.b64encode(pkcs7.serialize_certificates([loaded], Encoding.DER)),
        "JSON string": json.dumps(base64.b64encode(der).decode()).encode(),
        "JSON list": json.dumps([base64.b64encode(der).decode()]).encode(),
    }
    reports = {name: inspect(data, Scope(MADE_AT)) for name, data in forms.items()}
    for name, report in reports.items():
        assert report.content["certificates"] == reports["DER"].content["certificates"], name
        assert report.checks == reports["DER"].checks, name


def test_a_message_as_json_is_checked_like_its_exi(
    world: World, vehicle: ec.EllipticCurvePrivateKey
) -> None:
    data = world.response(point(vehicle))
    document = json.dumps(exi_json.to_json(exi.decode(data)))
    report = inspect(document.encode(), scope_of(world))
    assert report.checks == inspect(data, scope_of(world)).checks[:-1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  \n",
        b"hello world!",
        b"{}",
        b'{"a": 1}',
        b"[1]",
        b"{" * 100_000,
        b'{"contractData": 7}',
        b'{"CCPResponse": {}}',
        b'{"V2G_Message": {"Body": {"Nonsense": {}}}}',
        b"<a/>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----",
        b"\x80",
        b"\xff\xff",
        b"\x30\x80\x00\x00",
        bytes(1_000_001),
    ],
)
def test_unknown_data_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        inspect(data, Scope(NOW))


def test_a_message_that_breaks_off_is_told_where() -> None:
    with pytest.raises(UnreadableError, match=r"EXI, but: length: .*eMAID"):
        inspect(_RESPONSE[:-20], Scope(NOW))
    report = inspect(b"\x01\xfe\x80\x01\0\0\0\x40" + _RESPONSE[:64], Scope(NOW))
    assert failed(report) == ["payload readable"]


@settings(max_examples=200)
@given(st.binary(max_size=600))
@pytest.mark.parametrize("head", [b"", b"\x80", b"\x80\x98", b"\x30\x82\x01\xf0", b"\x01\xfe\x80"])
def test_any_bytes_are_a_report_or_unreadable(head: bytes, data: bytes) -> None:
    with suppress(UnreadableError):
        report = inspect(head + data, Scope(NOW))
        json.dumps(report.content)


@settings(max_examples=150)
@given(st.data())
def test_any_change_to_a_message_is_a_report_or_unreadable(data: st.DataObject) -> None:
    message = bytearray(_RESPONSE)
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UnreadableError):
        report = inspect(bytes(message), Scope(NOW))
        show(Console(file=StringIO()), "file", report)
        json.dumps(report.content)


_RESPONSE = World().response(point(ec.generate_private_key(ec.SECP256R1())))


# --- the command ---


def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    import typer

    app = typer.Typer()
    app.command()(cli.inspect)
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    return result.exit_code, result.output


def test_exit_status_and_json_follow_the_worst_file(tmp_path: Path) -> None:
    good, bad, junk = tmp_path / "good.der", tmp_path / "bad.der", tmp_path / "junk"
    good.write_bytes(MADE["root"])
    bad.write_bytes(MADE["forged_root"])
    junk.write_bytes(b"hello world!")
    at = ("--at", "2026-01-01")
    assert run(*at, str(good))[0] == 0
    assert run(*at, str(good), str(bad))[0] == 1
    assert run(*at, str(bad), str(junk))[0] == 2
    assert run(*at, str(tmp_path / "absent"))[0] == 2
    status, output = run("--json", *at, str(good), str(bad), str(junk))
    documents = [json.loads(line) for line in output.splitlines()]
    assert status == 2
    assert [d["kind"] for d in documents] == ["certificate", "certificate", "unreadable"]
    assert [d["ok"] for d in documents] == [True, False, False]
    for document in documents:
        assert list(document) == ["file", "kind", "content", "checks", "ok"]
        for check in document["checks"]:
            assert list(check) == ["check", "verdict", "detail"]
            assert check["verdict"] in ("ok", "failed", "not checked")


def test_stdin_time_and_trust_are_read(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(base64.b64encode(MADE["root"]))
    text = MADE["contract"].hex().encode()
    for at in ("2026-01-01", "2026-01-01T12:00:00Z", "1767225600"):
        assert run("-", "--at", at, stdin=text)[0] == 0
    assert run("-", "--at", "2050-01-01", stdin=text)[0] == 1
    assert run("-", "--at", "soon", stdin=text)[0] == 2
    status, output = run("-", "--at", "2026-01-01", "--trust", str(roots), stdin=text)
    assert status == 1
    assert "untrusted" in output
    leaf = tmp_path / "leaf.der"
    leaf.write_bytes(MADE["contract"])
    status, output = run("-", "--trust", str(leaf), stdin=text)
    assert status == 2
    assert "not-a-root" in output


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    data = _message("PaymentDetailsReq", {"eMAID": "\x1b[2J[bold]X", **_CHAIN})
    out = StringIO()
    show(
        Console(file=out, force_terminal=False, width=200), "a\x1b]0;b", inspect(data, Scope(NOW))
    )
    assert "\x1b" not in out.getvalue()
    assert "[bold]X" in out.getvalue()


_CHAIN = {"ContractSignatureCertChain": {"Certificate": MADE["contract"]}}


# --- the published samples ---


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("hubject_ccp_0", "CertificateInstallationRes", []),
        ("hubject_ccp_1", "CertificateInstallationRes", ["response code"]),
        ("hubject_ccp_2", "CertificateInstallationReq", []),
    ],
)
def test_the_published_messages_are_judged(
    shared: Path, name: str, kind: str, expected: list[str]
) -> None:
    for suffix in (".exi", ".json"):
        report = inspect((shared / "vectors" / (name + suffix)).read_bytes(), Scope(HUBJECT_AT))
        assert (report.kind, failed(report)) == (kind, expected)


def test_the_published_response_has_expired_since(shared: Path) -> None:
    data = (shared / "vectors" / "hubject_ccp_0.exi").read_bytes()
    assert failed(inspect(data, Scope(NOW))) == [
        f"CPS chain: valid at {timestamp(NOW)}",
        f"contract chain: valid at {timestamp(NOW)}",
    ]


def test_the_published_opcp_examples(shared: Path) -> None:
    at = 1646092800  # 2022-03-01
    expected = {
        ("cps.v1.json", "CreateSignedContractDataRequest"): [],
        ("cps.v1.json", "CreateSignedContractDataResponse"): [],
        ("pcp.v1.json", "example complete"): [],
        ("rcp.v1.json", "caCertificate"): [],
    }
    for (file, place), failures in expected.items():
        document = json.loads((shared / "opcp-1.0.0" / file).read_text())
        if place == "caCertificate":
            operation = document["paths"]["/v1/root/rootCerts"]["put"]["requestBody"]
            example = operation["content"]["application/json"]["examples"]["example-1"]["value"]
        elif place == "example complete":
            operation = document["paths"]["/v1/oem/provCerts"]["put"]["requestBody"]
            example = operation["content"]["application/json"]["examples"][place]["value"]
        else:
            examples = document["components"]["schemas"][place]["x-examples"]
            example = next(iter(examples.values()))
        assert failed(inspect(as_json(example), Scope(at))) == failures, place


def test_a_serial_number_below_zero_is_a_failed_check_and_no_librarys_warning(
    world: World, tmp_path: Path
) -> None:
    der = bytearray(world.contract.der)
    at = der.index(b"\xa0\x03\x02\x01\x02\x02") + 7  # after the version: INTEGER, length, value
    der[at] |= 0x80
    file = tmp_path / "negative.der"
    file.write_bytes(der)
    ended = subprocess.run(
        [sys.executable, "-m", "plugvault.cli.app", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == ""
    failures = [c["check"] for c in json.loads(ended.stdout)["checks"] if c["verdict"] == FAILED]
    assert any("readable" in check for check in failures)
