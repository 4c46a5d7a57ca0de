"""Text out of bytes: malformed UTF-8 of RFC 3629 is refused on every runtime, at every input."""

import json

from evcc import der, exi, utf8, x509
from evcc.link.mux import CONTROL
from helpers import raises
from test_exi import BODY, END, octets
from test_queues import Bench
from test_stores import MALFORMED
from test_telematics import EMAID, _pair

GOOD = ("", "A", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff")
GOOD += ("\U00010000", "\U0010ffff", "grüße €\U0001f50c")


def test_every_character_survives():
    for text in GOOD:
        assert utf8.decode(text.encode()) == text
        assert utf8.decode(bytearray(text.encode())) == text


def test_malformed_utf8_is_refused_wherever_it_stands():
    for bad in MALFORMED:
        for raw in (bad, b"ab" + bad, bad + b"ab", "ü".encode() + bad, bad + "€".encode()):
            raises(UnicodeError, None, utf8.decode, raw)


def test_malformed_utf8_in_a_certificates_name_is_refused():
    for bad in MALFORMED:
        oid = der.tlv(der.OID, bytes.fromhex("55040a"))
        value = der.tlv(der.UTF8_STRING, b"Maker" + bad)
        name = der.tlv(der.SEQUENCE, der.tlv(der.SET, der.tlv(der.SEQUENCE, oid, value)))
        raises(x509.CertificateError, "name", x509.names, name)


def test_malformed_utf8_in_a_request_of_the_maker_is_refused():
    maker, car = _pair()
    before = car.state()
    for bad in (b"\xc1\x81", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):  # two signatures each
        for fields in (
            (b"provision.csr", b"PVTP000000000000" + bad, b"Maker", b"DE"),
            (b"provision.csr", b"PVTP0000000000001", b"Maker" + bad, b"DE"),
            (b"provision.csr", b"PVTP0000000000001", b"Maker", bad),
            (b"trust.install", b"EU" + bad),
            (b"trust.install", b"EU", b"V2G" + bad, b"junk"),
            (b"contract.offer", EMAID.encode() + bad, b"\x05" * 8),
            (b"contract.choose", EMAID.encode() + bad),
            (b"contract.remove", EMAID.encode() + bad),
        ):
            assert maker.ask(car, *fields) == [b"refused", b"request"]
    assert car.state() == before


def test_malformed_utf8_is_no_request_of_the_bench():
    bench = Bench()
    for bad in MALFORMED:
        bench.deaf(CONTROL, b'{"id": 1, "do": "status", "x": "' + bad + b'"}')
    bench.take()
    answers = [json.loads(data) for data in bench.told(CONTROL)]
    assert answers == [{"error": "not a request", "id": None}] * len(MALFORMED)


def test_an_exi_string_is_characters_and_not_utf8():
    # Octets of UTF-8 in it are the numbers of other characters: each verdict is EXI's own.
    start = BODY + "011011 00 0 "  # ServiceDiscoveryReq, ServiceScope
    for size, bits, text in (
        (1, "11101101 00000001", "\u00ed"),
        (1, "11000001 10000001 00000001", "\u40c1"),
        (2, "11111111 01111111 01000001", "\u3fffA"),
    ):
        data = octets(start + "{:08b} ".format(size + 2) + bits + " 0 01" + END)
        decoded = exi.decode(data)["V2G_Message"]["Body"]["ServiceDiscoveryReq"]
        assert decoded == {"ServiceScope": text}
    for size, bits in (
        (1, "10000000 10110000 00000011"),  # U+D800
        (1, "11111111 10111111 00000011"),  # U+DFFF
        (1, "10000000 10000000 01000100"),  # U+110000
    ):
        data = octets(start + "{:08b} ".format(size + 2) + bits + " 0 0" + END)
        raises(exi.ExiError, "value", exi.decode, data)
    for good in ("\ud7ff", "\ue000", "\U0010ffff"):
        sent = {"V2G_Message": {"Header": {"SessionID": b""}, "Body": {}}}
        sent["V2G_Message"]["Body"] = {"ServiceDiscoveryReq": {"ServiceScope": good}}
        assert exi.decode(exi.encode(sent)) == sent
