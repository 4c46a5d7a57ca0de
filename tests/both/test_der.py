"""evcc.der refuses malformed DER, and reads back its own output."""

from evcc import der
from helpers import raises


def h(text):
    return bytes.fromhex(text)


def test_header_gives_offsets():
    data = h("ff3003020105")
    assert der.header(data, 1, 6) == (0x30, 3, 6)
    assert der.header(data, 3, 6) == (0x02, 5, 6)


def test_long_lengths_are_read_in_their_shortest_form():
    assert der.header(b"\x04\x81\x80" + bytes(128), 0, 131) == (4, 3, 131)
    assert der.header(b"\x04\x82\x01\x00" + bytes(256), 0, 260) == (4, 4, 260)


def test_header_refuses_malformed_elements():
    for reason, text in (
        ("truncated", ""),
        ("truncated", "30"),
        ("truncated", "3001"),
        ("truncated", "3081"),
        ("truncated", "308201"),
        ("tag", "1f0100"),
        ("tag", "bf8a3900"),
        ("length", "3080" + "0000"),
        ("length", "308081" + "00" * 129),
        ("length", "308100"),
        ("length", "30817f" + "00" * 127),
        ("length", "3082000100"),
        ("length", "308200ff" + "00" * 255),
        ("length", "3083000001" + "00"),
        ("length", "30ff"),
    ):
        data = h(text)
        raises(der.DerError, reason, der.header, data, 0, len(data))


def test_an_element_may_not_leave_its_parent():
    data = h("3002020500000000")
    raises(der.DerError, "truncated", der.header, data, 2, 4)


def test_expect_names_both_tags():
    error = raises(der.DerError, "tag", der.expect, h("3100"), 0, 2, der.SEQUENCE)
    assert "31 where 30" in str(error)


def test_whole_refuses_trailing_bytes():
    assert der.whole(h("3000"), der.SEQUENCE) == (2, 2)
    raises(der.DerError, "trailing", der.whole, h("300000"), der.SEQUENCE)


def test_integers_are_minimal_and_not_negative():
    for text in ("00", "01", "7f", "0080", "00ff01"):
        der.check_integer(h(text), 0, len(text) // 2)
    for text in ("", "80", "ff", "0000", "007f"):
        raises(der.DerError, "value", der.check_integer, h(text), 0, len(text) // 2)


def test_signature_value_pads_and_strips():
    rs = b"\0" * 31 + b"\x81" + b"\x7f" * 32
    value = der.signature_value(rs)
    assert value == h("3026" + "02020081" + "0220" + "7f" * 32)
    assert der.raw_signature(value, 0, len(value)) == rs
    zero = der.signature_value(bytes(64))
    assert zero == h("3006020100020100")
    assert der.raw_signature(zero, 0, len(zero)) == bytes(64)


def test_signature_value_refuses_malformed_signatures():
    for reason, text in (
        ("truncated", ""),
        ("truncated", "3000"),
        ("truncated", "3003020101"),
        ("trailing", "300602010102010100"),
        ("trailing", "3009020101020101020101"),
        ("tag", "3106020101020101"),
        ("tag", "3006020101040101"),
        ("value", "3006020181020101"),
        ("value", "300702020001020101"),
        ("value", "3026" + "0221" + "01" + "00" * 32 + "020101"),
        ("length", "308106020101020101"),
    ):
        data = h(text)
        raises(der.DerError, reason, der.raw_signature, data, 0, len(data))


def test_tlv_writes_the_shortest_length():
    for size in (0, 1, 127, 128, 255, 256, 65535):
        data = der.tlv(der.OCTET_STRING, bytes(size))
        assert der.whole(data, der.OCTET_STRING) == (len(data) - size, len(data))
    raises(der.DerError, "length", der.tlv, der.OCTET_STRING, bytes(65536))


def test_unsigned_is_minimal():
    for number, text in (("", "020100"), ("00", "020100"), ("0001", "020101"), ("80", "02020080")):
        assert der.unsigned(h(number)) == h(text)
