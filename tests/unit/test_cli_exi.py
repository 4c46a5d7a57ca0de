"""`plugvault exi`: forms of input and output, finding elements, a message a line."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evcc import exi
from plugvault import exi_json
from plugvault.cli.exi import LONGEST, app

CHAIN = {"Certificate": "MAA=", "SubCertificates": {"Certificate": ["MAA=", "MAE="]}}
REQUEST = {
    "V2G_Message": {
        "Header": {"SessionID": "00AB"},
        "Body": {
            "PaymentDetailsReq": {
                "eMAID": "DEPVTC000000001",
                "ContractSignatureCertChain": {"Id": "id1", **CHAIN},
            }
        },
    }
}
HANDSHAKE = {"supportedAppProtocolRes": {"ResponseCode": "OK_SuccessfulNegotiation"}}
SIGNED_INFO = {
    "CanonicalizationMethod": {"Algorithm": "c"},
    "SignatureMethod": {"Algorithm": "s"},
    "Reference": [{"URI": "#a", "DigestMethod": {"Algorithm": "d"}, "DigestValue": "AAAA"}],
}


def run(*arguments: str, given: Any = b"") -> Result:
    if not isinstance(given, bytes):
        given = json.dumps(given).encode()
    return CliRunner().invoke(app, list(arguments), input=given)


def data(document: Any, schema: str = "iso2") -> bytes:
    return exi.encode(exi_json.from_json(document, schema), schema)


@pytest.mark.parametrize(
    ("document", "schema"), [(REQUEST, "iso2"), (HANDSHAKE, "sap")], ids=["iso2", "sap"]
)
def test_schema_is_found_out_both_ways(document: Any, schema: str) -> None:
    found = run("encode", given=document)
    assert (found.exit_code, found.stdout_bytes) == (0, data(document, schema))
    back = run("decode", given=found.stdout_bytes)
    assert back.exit_code == 0
    assert json.loads(back.stdout) == document


def test_document_of_xmldsig_alone_is_found_out() -> None:
    document = {"SignedInfo": SIGNED_INFO}
    for schema in ("xmldsig", "iso2"):
        written = run("encode", "--schema", schema, given=document).stdout_bytes
        assert written == data(document, schema)
        assert json.loads(run("decode", given=written).stdout) == document


def test_document_of_one_message_without_its_envelope_is_found_out() -> None:
    document = {"AuthorizationReq": {"Id": "a", "GenChallenge": "AAAA"}}
    written = run("encode", given=document).stdout_bytes
    assert written[1] < 0x80  # as SupportedAppProtocol would begin
    assert json.loads(run("decode", given=written).stdout) == document


def test_binary_hex_and_base64_say_the_same(tmp_path: Path) -> None:
    binary = data(REQUEST)
    (tmp_path / "m.json").write_text(json.dumps(REQUEST))
    for option in ("--hex", "--base64"):
        text = run("encode", option, str(tmp_path / "m.json")).stdout
        assert json.loads(run("decode", option, given=text.encode()).stdout) == REQUEST
        assert text.isascii()
    (tmp_path / "m.exi").write_bytes(binary)
    assert json.loads(run("decode", str(tmp_path / "m.exi")).stdout) == REQUEST
    assert run("encode", "--hex", given=REQUEST).stdout == binary.hex() + "\n"


@pytest.mark.parametrize("command", ["decode", "encode"])
def test_two_forms_at_once_are_refused(command: str) -> None:
    assert run(command, "--hex", "--base64").exit_code == 2


def test_hexadecimal_may_be_spread_over_lines() -> None:
    text = data(REQUEST).hex(" ", 2).replace(" ", "\n").encode()
    assert json.loads(run("decode", "--hex", given=text).stdout) == REQUEST


def test_fragment_finds_the_element_in_the_message() -> None:
    element = REQUEST["V2G_Message"]["Body"]["PaymentDetailsReq"]["ContractSignatureCertChain"]
    name = "ContractSignatureCertChain"
    expected = exi.fragment(
        name,
        {
            "Id": "id1",
            "Certificate": b"0\0",
            "SubCertificates": {"Certificate": [b"0\0", b"0\x01"]},
        },
    )
    for given in (REQUEST, {name: element}, element):
        assert run("fragment", "--element", name, given=given).stdout_bytes == expected
    shown = run("fragment", "--element", name, "--hex", given=REQUEST).stdout
    assert shown == expected.hex() + "\n"


def test_fragment_of_signed_info_is_in_the_schema_of_xmldsig_alone() -> None:
    signature = {"SignedInfo": SIGNED_INFO, "SignatureValue": {"value": "AAAA"}}
    message = {"V2G_Message": {"Header": {"SessionID": "00", "Signature": signature}, "Body": {}}}
    wanted = {**SIGNED_INFO, "Reference": [{**SIGNED_INFO["Reference"][0]}]}
    wanted["Reference"][0]["DigestValue"] = b"\0\0\0"
    expected = exi.fragment("SignedInfo", wanted, "xmldsig")
    for given in (message, {"Signature": signature}, {"SignedInfo": SIGNED_INFO}, SIGNED_INFO):
        assert run("fragment", "--element", "SignedInfo", given=given).stdout_bytes == expected


def test_fragment_of_emaid_in_both_forms() -> None:
    value = {"Id": "id4", "value": "DEABCC123ABC56"}
    arguments = ["fragment", "--element", "eMAID", "--hex"]
    assert run(*arguments, given=value).stdout.startswith("80ec0202b4")
    assert run(*arguments, "--typed", given=value).stdout.startswith("80ec02b4")


def test_fragment_takes_a_name_of_two_namespaces_where_it_stands_in_a_message() -> None:
    assert run("fragment", "--element", "SessionID", given=REQUEST).exit_code == 0
    assert run("fragment", "--element", "SessionID", given=b'"00"').exit_code == 1


@pytest.mark.parametrize(
    ("element", "reason"),
    [("AuthorizationReq", "missing"), ("Certificate", "value"), ("Foo", "missing")],
)
def test_fragment_of_what_is_not_there_once_is_refused(element: str, reason: str) -> None:
    refused(run("fragment", "--element", element, given=REQUEST), reason)


def refused(found: Result, reason: str) -> None:
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.startswith(f"plugvault exi: {reason}: ")
    assert found.stderr.count("\n") == 1


def test_a_bad_message_is_one_clear_line() -> None:
    refused(run("decode", given=b""), "truncated")
    refused(run("decode", given=b"\x81\0\0"), "header")
    refused(run("decode", "--hex", given=b"zz"), "value")
    refused(run("decode", "--base64", given=b"A"), "value")
    refused(run("decode", "--schema", "sap", given=data(REQUEST)), "event")
    refused(run("encode", given=b"{"), "value")
    refused(run("encode", given=b"[" * 100_000), "value")
    refused(run("encode", given=b"\xff\xfe\xfa"), "value")
    refused(run("encode", given=b"[]"), "type")
    refused(run("encode", given={}), "type")
    refused(run("encode", given={"V2G_Message": {}, "Foo": {}}), "type")
    refused(run("encode", given={"Foo": {}}), "unknown")
    refused(run("encode", given=b'{"V2G_Message": {}, "V2G_Message": {}}'), "value")


@pytest.mark.parametrize("session", ["0", "zz", "0 0", "é", "00 "])
def test_bad_hexadecimal_names_its_place(session: str) -> None:
    document = {"V2G_Message": {"Header": {"SessionID": session}, "Body": {}}}
    with pytest.raises(exi.ExiError) as caught:
        exi_json.from_json(document)
    assert (caught.value.reason, caught.value.detail) == (
        "value",
        "V2G_Message/Header/SessionID: not hexadecimal",
    )


@pytest.mark.parametrize("text", ["A", "AA", "AA=", "A A=", "AA==\n", "AB==", "é", "AAA-"])
def test_bad_base64_names_its_place(text: str) -> None:
    body = {"CertificateInstallationReq": {"Id": "a", "OEMProvisioningCert": text}}
    document = {"V2G_Message": {"Header": {"SessionID": "00"}, "Body": body}}
    with pytest.raises(exi.ExiError) as caught:
        exi_json.from_json(document)
    assert caught.value.reason == "value"
    place = "V2G_Message/Body/CertificateInstallationReq/OEMProvisioningCert: "
    assert caught.value.detail.startswith(place)


def test_json_of_the_wrong_type_names_its_place() -> None:
    chain = "ContractSignatureCertChain"
    for path, wrong in (
        (["Header", "SessionID"], 5),
        (["Header", "SessionID"], None),
        (["Header", "SessionID"], ["00"]),
        (["Header"], "x"),
        (["Body"], 5),
        (["Body", "PaymentDetailsReq"], []),
        (["Body", "PaymentDetailsReq", chain, "Certificate"], 5),
        (["Body", "PaymentDetailsReq", chain, "SubCertificates", "Certificate"], "MAA="),
        (["Body", "PaymentDetailsReq", chain, "SubCertificates", "Certificate"], 5),
    ):
        document = copy.deepcopy(REQUEST)
        place: Any = document["V2G_Message"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = wrong
        found = run("encode", given=document)
        refused(found, "type")
        assert "/".join(["V2G_Message", *path]) + ": " in found.stderr


def test_text_where_octets_are_wanted_is_told_what_to_say() -> None:
    assert "--hex" in run("decode", given=data(REQUEST).hex().encode()).stderr
    assert "--hex" not in run("decode", given=b"\x81\0\0").stderr


def test_a_missing_file_is_one_clear_line() -> None:
    found = run("decode", "no-such-file")
    assert found.exit_code == 1
    assert found.stderr == "plugvault exi: no-such-file: No such file or directory\n"


def test_a_bad_line_is_answered_and_the_rest_go_on() -> None:
    good = data(REQUEST).hex()
    given = f"{good}\n\nzz\n{good[:-20]}\n{data(HANDSHAKE, 'sap').hex()}\r\n{good}".encode()
    found = run("decode", "--lines", given=given)
    assert found.exit_code == 0
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    reasons = [a.get("error", {}).get("reason") for a in answers]
    assert reasons[:3] == [None, "truncated", "value"]
    assert reasons[3] in ("truncated", "length")
    assert reasons[4:] == [None, None]
    assert answers[0] == answers[5] == REQUEST
    assert answers[4] == HANDSHAKE


def test_lines_of_json_are_answered_in_hexadecimal() -> None:
    given = "\n".join([json.dumps(REQUEST), "", "{}", "[", json.dumps(HANDSHAKE)])
    found = run("encode", "--lines", given=given.encode()).stdout.splitlines()
    assert found[0] == data(REQUEST).hex()
    assert [json.loads(line)["error"]["reason"] for line in found[1:4]] == [
        "value",
        "type",
        "value",
    ]
    assert found[4] == data(HANDSHAKE, "sap").hex()
    arguments = ["fragment", "--lines", "--element", "eMAID"]
    assert run(*arguments, given=b'{"Id":"id4","value":"DEABCC123ABC56"}\n\n').stdout.startswith(
        "80ec0202b4b21a40041111505090d0cc4c8cd05090cd4dbd3d00\n" + '{"error"'
    )


def test_a_line_too_long_to_hold_is_answered() -> None:
    given = b"8" * (LONGEST + 5) + b"\n" + data(REQUEST).hex().encode() + b"\n"
    found = run("decode", "--lines", given=given).stdout.splitlines()
    assert json.loads(found[0])["error"]["reason"] == "length"
    assert json.loads(found[1]) == REQUEST
    assert len(found) == 2


def test_it_ends_quietly_when_nobody_reads_the_answers(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text((data(REQUEST).hex() + "\n") * 5000)
    with subprocess.Popen(
        [sys.executable, "-m", "plugvault.cli.app", "exi", "decode", "--lines", "lines"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline()) == REQUEST
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_line_is_answered_before_the_next_is_there() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "plugvault.cli.app", "exi", "decode", "--lines"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        for document, schema in ((REQUEST, "iso2"), (HANDSHAKE, "sap")):
            process.stdin.write(data(document, schema).hex().encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == document
        process.stdin.close()
        assert process.stdout.read() == b""
