"""V2GTP, ISO 15118-2 section 7.8.3."""

from evcc.link import v2gtp
from evcc.link.v2gtp import V2gtpError
from helpers import raises


def test_header_is_version_complement_type_and_length():
    assert v2gtp.encode(b"\x80\x98").hex() == "01fe8001000000028098"


def test_messages_are_read_from_pieces_of_any_size():
    payloads = [b"a", bytes(4416), b"", b"xyz"]
    stream = b"".join([v2gtp.encode(payload) for payload in payloads])
    assert v2gtp.PayloadReader().feed(stream) == payloads
    for size in (1, 7, 8, 9, 1000):
        reader = v2gtp.PayloadReader()
        received = []
        for start in range(0, len(stream), size):
            received += reader.feed(stream[start : start + size])
        assert received == payloads
        assert reader.pending == 0
        reader.feed(stream[:5])
        assert reader.pending == 5


def test_length_over_limit_is_refused_from_the_header_alone():
    header = bytes.fromhex("01fe800100002001")
    raises(V2gtpError, "too-long", v2gtp.PayloadReader().feed, header)
    raises(V2gtpError, "too-long", v2gtp.PayloadReader(4).feed, v2gtp.encode(b"12345"))
    assert v2gtp.PayloadReader(5).feed(v2gtp.encode(b"12345")) == [b"12345"]
    raises(V2gtpError, "too-long", v2gtp.PayloadReader().feed, bytes.fromhex("01fe8001ffffffff"))


def test_other_versions_and_payload_types_are_refused():
    raises(V2gtpError, "version", v2gtp.PayloadReader().feed, bytes.fromhex("02fd800100000000"))
    raises(V2gtpError, "version", v2gtp.PayloadReader().feed, bytes.fromhex("01ff800100000000"))
    raises(V2gtpError, "payload-type", v2gtp.PayloadReader().feed, v2gtp.encode(b"", 0x9000))
    for number in (0x8002, 0x8003, 0x8004):
        try:
            v2gtp.PayloadReader().feed(v2gtp.encode(b"", number))
        except V2gtpError as error:
            assert error.reason == "payload-type"
            assert "%04x, ISO 15118-20: not supported (yet)" % number in str(error)
        else:
            raise AssertionError(number)
