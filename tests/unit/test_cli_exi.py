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


def run(*arguments: str, document: Any = b"") -> Result:
    if not isinstance(document, bytes):
        document = json.dumps(document).encode()
    return CliRunner().invoke(app, list(arguments), input=document)


def data(document: Any, schema: str = "iso2") -> bytes:
    return exi.encode(exi_json.from_json(document, schema), schema)


@pytest.mark.parametrize(
    ("document", "schema"), [(REQUEST, "iso2"), (HANDSHAKE, "sap")], ids=["iso2", "sap"]
)
def test_schema_is_detected_in_both_directions(document: Any, schema: str) -> None:
    encoded = run("encode", document=document)
    assert (encoded.exit_code, encoded.stdout_bytes) == (0, data(document, schema))
    decoded = run("decode", document=encoded.stdout_bytes)
    assert decoded.exit_code == 0
    assert json.loads(decoded.stdout) == document


def test_document_of_xmldsig_alone_is_detected() -> None:
    document = {"SignedInfo": SIGNED_INFO}
    for schema in ("xmldsig", "iso2"):
        written = run("encode", "--schema", schema, document=document).stdout_bytes
        assert written == data(document, schema)
        assert json.loads(run("decode", document=written).stdout) == document


def test_message_without_its_envelope_is_detected() -> None:
    document = {"AuthorizationReq": {"Id": "a", "GenChallenge": "AAAA"}}
    written = run("encode", document=document).stdout_bytes
    assert written[1] < 0x80  # as SupportedAppProtocol would begin
    assert json.loads(run("decode", document=written).stdout) == document


def test_binary_hex_and_base64_say_the_same(tmp_path: Path) -> None:
    binary = data(REQUEST)
    (tmp_path / "m.json").write_text(json.dumps(REQUEST))
    for option in ("--hex", "--base64"):
        text = run("encode", option, str(tmp_path / "m.json")).stdout
        assert json.loads(run("decode", option, document=text.encode()).stdout) == REQUEST
        assert text.isascii()
    (tmp_path / "m.exi").write_bytes(binary)
    assert json.loads(run("decode", str(tmp_path / "m.exi")).stdout) == REQUEST
    assert run("encode", "--hex", document=REQUEST).stdout == binary.hex() + "\n"


@pytest.mark.parametrize("command", ["decode", "encode"])
def test_two_forms_at_once_are_refused(command: str) -> None:
    assert run(command, "--hex", "--base64").exit_code == 2


def test_hexadecimal_may_be_spread_over_lines() -> None:
    text = data(REQUEST).hex(" ", 2).replace(" ", "\n").encode()
    assert json.loads(run("decode", "--hex", document=text).stdout) == REQUEST


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
    for input_document in (REQUEST, {name: element}, element):
        assert run("fragment", "--element", name, document=input_document).stdout_bytes == expected
    text = run("fragment", "--element", name, "--hex", document=REQUEST).stdout
    assert text == expected.hex() + "\n"


def test_fragment_of_signed_info_is_in_the_schema_of_xmldsig_alone() -> None:
    signature = {"SignedInfo": SIGNED_INFO, "SignatureValue": {"value": "AAAA"}}
    message = {"V2G_Message": {"Header": {"SessionID": "00", "Signature": signature}, "Body": {}}}
    signed_info = {**SIGNED_INFO, "Reference": [{**SIGNED_INFO["Reference"][0]}]}
    signed_info["Reference"][0]["DigestValue"] = b"\0\0\0"
    expected = exi.fragment("SignedInfo", signed_info, "xmldsig")
    for input_document in (
        message,
        {"Signature": signature},
        {"SignedInfo": SIGNED_INFO},
        SIGNED_INFO,
    ):
        assert (
            run("fragment", "--element", "SignedInfo", document=input_document).stdout_bytes
            == expected
        )


def test_fragment_of_emaid_in_both_forms() -> None:
    value = {"Id": "id4", "value": "DEABCC123ABC56"}
    arguments = ["fragment", "--element", "eMAID", "--hex"]
    assert run(*arguments, document=value).stdout.startswith("80ec0202b4")
    assert run(*arguments, "--typed", document=value).stdout.startswith("80ec02b4")


def test_fragment_takes_a_name_of_two_namespaces_where_it_stands_in_a_message() -> None:
    assert run("fragment", "--element", "SessionID", document=REQUEST).exit_code == 0
    assert run("fragment", "--element", "SessionID", document=b'"00"').exit_code == 1


@pytest.mark.parametrize(
    ("element", "reason"),
    [("AuthorizationReq", "missing"), ("Certificate", "value"), ("Foo", "missing")],
)
def test_fragment_of_an_element_that_is_missing_or_ambiguous_is_refused(
    element: str, reason: str
) -> None:
    refused(run("fragment", "--element", element, document=REQUEST), reason)


def refused(result: Result, reason: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"plugvault exi: {reason}: ")
    assert result.stderr.count("\n") == 1


def test_a_bad_message_is_one_clear_line() -> None:
    refused(run("decode", document=b""), "truncated")
    refused(run("decode", document=b"\x81\0\0"), "header")
    refused(run("decode", "--hex", document=b"zz"), "value")
    refused(run("decode", "--base64", document=b"A"), "value")
    refused(run("decode", "--schema", "sap", document=data(REQUEST)), "event")
    refused(run("encode", document=b"{"), "value")
    refused(run("encode", document=b"[" * 100_000), "value")
    refused(run("encode", document=b"\xff\xfe\xfa"), "value")
    refused(run("encode", document=b"[]"), "type")
    refused(run("encode", document={}), "type")
    refused(run("encode", document={"V2G_Message": {}, "Foo": {}}), "type")
    refused(run("encode", document={"Foo": {}}), "unknown")
    refused(run("encode", document=b'{"V2G_Message": {}, "V2G_Message": {}}'), "value")


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        ("01fe800200000002801000", "ISO 15118-20 (common messages): not supported (yet)"),
        ("01fe800400000002801000", "ISO 15118-20 (DC): not supported (yet)"),
        ("809a0011d020", "DIN 70121: not supported (yet)"),
        ("8008040000000000000000080e2cfaa062", "ISO 15118-20: not supported (yet)"),
    ],
)
def test_other_protocols_are_called_by_their_names(octets: str, name: str) -> None:
    assert name in run("decode", "--hex", document=octets.encode()).stderr


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


class _Name(str):
    """A member's name that counts its comparisons."""

    __slots__ = ()
    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        _Name.comparisons += 1
        return super().__eq__(other)


def test_a_member_given_twice_is_found_in_one_pass_over_the_members() -> None:
    names = [f"{i:04d}" for i in range(1000)] + ["0999"]
    document = "{" + ",".join(f'"{name}":0' for name in names) + "}"
    result = run("encode", document=document.encode())
    assert result.stderr == "plugvault exi: value: member 0999 given twice\n"
    with pytest.raises(exi.ExiError):
        exi_json._unique([(_Name(name), 0) for name in names])
    assert _Name.comparisons <= len(names)


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
        result = run("encode", document=document)
        refused(result, "type")
        assert "/".join(["V2G_Message", *path]) + ": " in result.stderr


def test_text_input_instead_of_octets_gets_a_hint() -> None:
    assert "--hex" in run("decode", document=data(REQUEST).hex().encode()).stderr
    assert "--hex" not in run("decode", document=b"\x81\0\0").stderr


def test_a_missing_file_is_one_clear_line() -> None:
    result = run("decode", "no-such-file")
    assert result.exit_code == 1
    assert result.stderr == "plugvault exi: no-such-file: No such file or directory\n"


def test_a_bad_line_is_answered_and_the_next_lines_are_processed() -> None:
    good = data(REQUEST).hex()
    lines = f"{good}\n\nzz\n{good[:-20]}\n{data(HANDSHAKE, 'sap').hex()}\r\n{good}".encode()
    result = run("decode", "--lines", document=lines)
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    reasons = [a.get("error", {}).get("reason") for a in answers]
    assert reasons[:3] == [None, "truncated", "value"]
    assert reasons[3] in ("truncated", "length")
    assert reasons[4:] == [None, None]
    assert answers[0] == answers[5] == REQUEST
    assert answers[4] == HANDSHAKE


@pytest.mark.parametrize(("bad", "status"), [(b"", 0), (b"zz\n", 1)])
def test_the_status_of_many_lines_tells_whether_one_was_bad(bad: bytes, status: int) -> None:
    good = data(REQUEST)
    lines = good.hex().encode() + b"\n" + bad + good.hex().encode() + b"\n"
    assert run("decode", "--lines", document=lines).exit_code == status
    documents = json.dumps(REQUEST).encode() + b"\n" + bad + json.dumps(REQUEST).encode()
    assert run("encode", "--lines", document=documents).exit_code == status
    words = ("fragment", "--lines", "--element", "ContractSignatureCertChain")
    assert run(*words, document=documents).exit_code == status


def test_lines_of_json_are_answered_in_hexadecimal() -> None:
    lines = "\n".join([json.dumps(REQUEST), "", "{}", "[", json.dumps(HANDSHAKE)])
    output = run("encode", "--lines", document=lines.encode()).stdout.splitlines()
    assert output[0] == data(REQUEST).hex()
    assert [json.loads(line)["error"]["reason"] for line in output[1:4]] == [
        "value",
        "type",
        "value",
    ]
    assert output[4] == data(HANDSHAKE, "sap").hex()
    arguments = ["fragment", "--lines", "--element", "eMAID"]
    assert run(
        *arguments, document=b'{"Id":"id4","value":"DEABCC123ABC56"}\n\n'
    ).stdout.startswith("80ec0202b4b21a40041111505090d0cc4c8cd05090cd4dbd3d00\n" + '{"error"')


def test_a_line_too_long_to_hold_is_answered() -> None:
    lines = b"8" * (LONGEST + 5) + b"\n" + data(REQUEST).hex().encode() + b"\n"
    output = run("decode", "--lines", document=lines).stdout.splitlines()
    assert json.loads(output[0])["error"]["reason"] == "length"
    assert json.loads(output[1]) == REQUEST
    assert len(output) == 2


def test_it_ends_quietly_when_the_reader_closes_the_pipe(tmp_path: Path) -> None:
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
