"""The XML form of bundles: there and back, as published, and nothing but a bundle."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import signed
from evcc import exi, signature
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2 import response, xml
from plugvault.contract.iso15118_2.bundle import NO_SESSION, bundle, to_exi
from plugvault.contract.iso15118_2.xml import XmlError
from plugvault.pki import path
from plugvault.pki.verify import verify_p256


def test_a_bundle_goes_through_xml_and_stays_the_same():
    message = signed()
    assert xml.read(xml.write(message)) == message


@given(st.binary(min_size=1, max_size=90), st.from_regex("[A-Z0-9]{14,15}", fullmatch=True))
def test_any_certificate_and_emaid_go_through_xml_and_exi(leaf: bytes, emaid: str):
    data = ContractData(emaid, leaf, (b"sub2", b"sub1"), bytes(48), b"\x04" * 65)
    message = bundle(data, b"cps", [b"its sub"], lambda _: leaf[:1] * 64)
    assert xml.read(xml.write(message)) == message
    assert exi.decode(to_exi(message)) == message


def test_a_session_id_goes_through_xml_and_an_empty_one_is_left_out():
    message = signed()
    assert b"SessionID" not in xml.write(message)
    message["V2G_Message"]["Header"]["SessionID"] = bytes.fromhex("2a3dc6d75411f647")
    document = xml.write(message)
    assert b"2A3DC6D75411F647" in document
    assert xml.read(document) == message


def test_the_namespaces_are_the_standards():
    document = xml.write(signed())
    for name, namespace in (
        ("V2G_Message", "urn:iso:15118:2:2013:MsgDef"),
        ("CertificateInstallationRes", "urn:iso:15118:2:2013:MsgBody"),
        ("SubCertificates", "urn:iso:15118:2:2013:MsgDataTypes"),
        ("SignedInfo", "http://www.w3.org/2000/09/xmldsig#"),
    ):
        prefix = re.search(rf'xmlns:(\w+)="{namespace}"'.encode(), document)
        assert prefix, namespace
        assert b"<" + prefix[1] + b":" + name.encode() in document


def test_published_bundles_are_read_and_their_signatures_hold(shared: Path):
    """`signedData` of OPCP's own examples, made by another implementation."""
    text = (shared / "opcp-1.0.0" / "cps.v1.json").read_text()
    texts = set(re.findall(r'"signedData"\s*:\s*("[A-Za-z0-9+/=\\]{2000,}")', text))
    documents = [base64.b64decode(json.loads(text_)) for text_ in texts]
    assert documents
    for document in documents:
        message = xml.read(document)
        assert message["V2G_Message"]["Header"]["SessionID"] == NO_SESSION
        bundle = response.read(exi.decode(to_exi(message)))
        signer = path.read(bundle.cps).point
        assert not signature.verify(bundle.signature, list(bundle.signed), signer, verify_p256)
        assert xml.read(xml.write(message)) == message


def changed(old: str, new: str) -> bytes:
    document = xml.write(signed()).decode()
    assert old in document
    return document.replace(old, new, 1).encode()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "format"),
        (b"\x00\xff", "format"),
        (b"<a>", "format"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "format"),
        (b"<V2G_Message/>", "element"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "format"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "format"),
        (b" " * (xml.LIMIT + 1), "too-long"),
    ],
)
def test_a_document_that_is_no_bundle_is_refused(document: bytes, reason: str):
    with pytest.raises(XmlError) as caught:
        xml.read(document)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ResponseCode>OK<", "ResponseCode><b/>OK<", "element"),
        ("</v2gci_d:Body>", "<more/></v2gci_d:Body>", "element"),
        ("<v2gci_d:Header>", "<v2gci_d:Header><v2gci_d:Other/>", "element"),
        ("<v2gci_d:Body>", '<v2gci_d:Body odd="1">', "element"),
        (
            "<v2gci_b:ResponseCode>OK</v2gci_b:ResponseCode>",
            "<v2gci_b:ResponseCode>OK</v2gci_b:ResponseCode>" * 2,
            "element",
        ),
        ("<v2gci_t:Certificate>M", "<v2gci_t:Certificate>*", "value"),
    ],
)
def test_a_bundle_with_something_more_is_refused(old: str, new: str, reason: str):
    with pytest.raises(XmlError) as caught:
        xml.read(changed(old, new))
    assert caught.value.reason == reason


def test_white_space_inside_base64_means_nothing():
    document = xml.write(signed()).decode()
    folded = re.sub(r"(>[A-Za-z0-9+/]{64})", "\\1\n   ", document).encode()
    assert b"\n   " in folded
    assert xml.read(folded) == xml.read(document.encode())
