"""Protocols of peers have their names."""

from evcc import exi, protocols
from evcc.iso15118_2 import messages


def test_payload_types_of_iso15118_20_are_called_so():
    assert protocols.of_payload(0x8002) == "ISO 15118-20 (common messages)"
    assert protocols.of_payload(0x8003) == "ISO 15118-20 (AC)"
    assert protocols.of_payload(0x8004) == "ISO 15118-20 (DC)"


def test_payload_types_of_discovery_are_called_so():
    assert protocols.of_payload(0x9000) == protocols.of_payload(0x9001) == "SDP"


def test_an_unknown_payload_type_has_no_name():
    assert protocols.of_payload(0x8001) == protocols.of_payload(0x7FFF) == ""


def test_namespaces_have_the_names_of_their_protocols():
    assert protocols.of_namespace(messages.NAMESPACE) == protocols.ISO2
    assert protocols.of_namespace("urn:din:70121:2012:MsgDef") == protocols.DIN
    assert protocols.of_namespace("urn:iso:std:iso:15118:-20:DC") == protocols.ISO20


def test_an_unknown_namespace_is_its_own_name():
    assert protocols.of_namespace("urn:else") == "urn:else"


def test_a_document_of_din_70121_is_told_from_one_of_iso15118_2():
    body = messages.session_setup_req(bytes(6))
    document = exi.encode(messages.envelope(bytes(8), "SessionSetupReq", body))
    assert not protocols.is_din(document)
    assert protocols.is_din(b"\x80\x9a" + document[2:])
    assert not protocols.is_din(b"\x80")
