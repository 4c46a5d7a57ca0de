"""EXI as XML: every message comes back as it was, and wrong XML is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from evcc import exi
from evcc.link import v2gtp
from exi_messages import ROOTS, Leaves, cases, documents
from plugvault import exi_json
from plugvault.cli.exi import app
from plugvault.contract.iso15118_2 import xml as bundles
from plugvault.exi_xml import from_xml, to_xml

REQUEST = {
    "V2G_Message": {
        "Header": {"SessionID": "00AB"},
        "Body": {
            "PaymentDetailsReq": {
                "eMAID": "DEPVTC000000001",
                "ContractSignatureCertChain": {"Id": "id1", "Certificate": "MAA="},
            }
        },
    }
}
HANDSHAKE = {"supportedAppProtocolRes": {"ResponseCode": "OK_SuccessfulNegotiation"}}


def run(*arguments: str, document: Any = b"") -> Result:
    if not isinstance(document, bytes):
        document = json.dumps(document).encode()
    return CliRunner().invoke(app, list(arguments), input=document)


# Everything that XML can hold, with spaces and line breaks at the ends.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r<>&\"'"),
    max_size=20,
)
VALUES = Leaves(TEXT, st.binary(max_size=20))
CORPUS = json.loads((Path(__file__).parents[1] / "vectors/exi_corpus.json").read_text())["vectors"]


@pytest.mark.parametrize(("schema", "root"), ROOTS)
@pytest.mark.parametrize("indent", [False, True])
def test_every_message_comes_back(whole: bool, schema: str, root: str, indent: bool) -> None:
    @cases(whole, 5, 200)
    @given(documents(schema, root, VALUES))
    def test(message: dict[str, Any]) -> None:
        text = to_xml(message, schema, indent)
        again, found = from_xml(text.encode(), schema)
        assert again == message
        assert exi.encode(again, found) == exi.encode(message, schema)

    test()


def test_a_bundle_is_read_by_the_pools_and_the_pools_bundle_is_read_here() -> None:
    row = next(
        row
        for row in CORPUS
        if row["schema"] == "iso2"
        and row["form"] == "document"
        and "CertificateInstallationRes" in str(exi.decode(bytes.fromhex(row["exi"])))
    )
    message = exi.decode(bytes.fromhex(row["exi"]))
    assert bundles.read(to_xml(message).encode()) == message
    assert from_xml(bundles.write(message))[0] == message


def test_the_pools_refuse_elements_in_another_order() -> None:
    row = next(
        row
        for row in CORPUS
        if row["schema"] == "iso2"
        and row["form"] == "document"
        and "CertificateInstallationRes" in str(exi.decode(bytes.fromhex(row["exi"])))
    )
    text = bundles.write(exi.decode(bytes.fromhex(row["exi"]))).decode()
    code = text[text.index("<v2gci_b:ResponseCode>") : text.index("<v2gci_b:SAProv")]
    moved = text.replace(code, "").replace(
        "</v2gci_b:CertificateInstallationRes>", code + "</v2gci_b:CertificateInstallationRes>"
    )
    with pytest.raises(bundles.XmlError, match="ResponseCode stands behind"):
        bundles.read(moved.encode())


GOOD = to_xml(exi_json.from_json(REQUEST))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("PaymentDetailsReq", "PaymentDetailsXeq")], "PaymentDetailsXeq: not expected"),
        ([("v2gci_h:SessionID", "v2gci_b:SessionID")], "but in 'urn:iso:15118:2:2013:MsgHeader'"),
        ([("00AB", "00A")], "SessionID: not hexadecimal"),
        ([("MAA=", "M")], "Certificate: not base64"),
        ([("urn:iso:15118:2:2013:MsgDef", "urn:din:70121:2012:MsgDef")], "DIN 70121"),
        ([("urn:iso:15118:2:2013:MsgDef", "urn:x")], "no message begins with V2G_Message"),
        ([(" v2gci_t:Id=", " v2gci_t:Ix=")], "Ix: not expected"),
        ([("<v2gci_h:SessionID>", "x<v2gci_h:SessionID>")], "a text where elements belong"),
        ([("00AB<", "00AB<v2gci_h:SessionID/><")], "elements where a text belongs"),
        (
            [("<v2gci_b:eMAID>DEPVTC000000001</v2gci_b:eMAID>", ""),
             ("</v2gci_b:PaymentDetailsReq>",
              "<v2gci_b:eMAID>DEPVTC000000001</v2gci_b:eMAID></v2gci_b:PaymentDetailsReq>")],
            "ContractSignatureCertChain stands where eMAID belongs",
        ),
        (
            [("<v2gci_b:eMAID>", "<v2gci_b:eMAID>A</v2gci_b:eMAID><v2gci_b:eMAID>")],
            "eMAID: more than once",
        ),
        ([("<v2gci_b:eMAID>DEPVTC000000001</v2gci_b:eMAID>", "")], "eMAID"),
        ([("?>", "?><!DOCTYPE a>")], "not XML"),
        ([("</v2gci_d:V2G_Message>", "")], "not XML"),
    ],
)  # fmt: skip
def test_wrong_xml_is_refused_by_name(changes: list[tuple[str, str]], words: str) -> None:
    document = GOOD
    for old, new in changes:
        assert old in document
        document = document.replace(old, new)
    with pytest.raises(exi.ExiError) as caught:
        from_xml(document.encode())
    assert words in str(caught.value)


def test_foreign_prefixes_attributes_and_spaces_have_no_meaning() -> None:
    document = GOOD.replace("v2gci_b:", "a:").replace(":v2gci_b", ":a")
    document = document.replace(" v2gci_t:Id=", " Id=").replace("MAA=", " M A\nA= ")
    document = document.replace(
        "<v2gci_d:Header>",
        '<v2gci_d:Header xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="x"><!-- -->',
    )
    assert from_xml(document.encode())[0] == exi_json.from_json(REQUEST)
    declared = document.replace("UTF-8", "utf-16").encode("utf-16")
    assert from_xml(declared)[0] == exi_json.from_json(REQUEST)


def test_a_character_that_xml_cannot_hold_is_refused() -> None:
    message = exi_json.from_json(REQUEST)
    message["V2G_Message"]["Body"]["PaymentDetailsReq"]["eMAID"] = "DE\0"
    with pytest.raises(exi.ExiError, match="XML cannot hold"):
        to_xml(message)


@pytest.mark.parametrize("document", [REQUEST, HANDSHAKE], ids=["iso2", "sap"])
def test_the_command_reads_and_writes_xml(document: Any) -> None:
    encoded = run("encode", document=document).stdout_bytes
    for lines in ([], ["--lines"]):
        octets = encoded.hex().encode() + b"\n" if lines else encoded
        written = run("decode", "--xml", *lines, document=octets)
        assert written.exit_code == 0
        assert written.stdout.startswith("<?xml")
        assert len(written.stdout.splitlines()) == 1 or not lines
        again = run("encode", "--hex", *lines, document=written.stdout_bytes)
        assert again.stdout.strip() == encoded.hex()


def test_a_fragment_is_made_of_xml() -> None:
    words = ("fragment", "--element", "ContractSignatureCertChain", "--hex")
    of_json = run(*words, document=REQUEST)
    assert run(*words, document=GOOD.encode()).stdout == of_json.stdout != ""


def test_a_v2gtp_frame_is_decoded() -> None:
    encoded = run("encode", document=REQUEST).stdout_bytes
    frame = v2gtp.encode(encoded)
    assert json.loads(run("decode", document=frame).stdout) == REQUEST
    assert json.loads(run("decode", "--hex", document=frame.hex().encode()).stdout) == REQUEST
    for wrong, words in (
        (frame[:-1], "a V2GTP frame of"),
        (frame[:5], "a V2GTP frame of"),
        (frame + frame, "plugvault inspect"),
        (v2gtp.encode(encoded, 0x8002), "ISO 15118-20"),
        (v2gtp.encode(encoded, 0x7777), "7777, not 8001"),
    ):
        refused = run("decode", document=wrong)
        assert refused.exit_code == 1
        assert words in refused.stderr
