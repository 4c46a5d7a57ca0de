from evcc.record import RecordError, pack, unpack
from helpers import raises

FIELDS = [b"", b"one", bytes(700)]


def test_fields_come_back_as_they_were():
    assert unpack(pack(FIELDS)) == FIELDS
    assert unpack(pack([])) == []


def test_every_truncation_is_damage():
    packed = pack(FIELDS[:2])
    for length in range(len(packed)):
        raises(RecordError, "damaged", unpack, packed[:length])


def test_every_flipped_bit_is_damage():
    packed = pack(FIELDS[:2])
    for i in range(len(packed) * 8):
        torn = bytearray(packed)
        torn[i >> 3] ^= 1 << (i & 7)
        raises(RecordError, "damaged", unpack, bytes(torn))


def test_bytes_after_the_end_are_damage():
    raises(RecordError, "damaged", unpack, pack(FIELDS) + b"\0")


def test_a_field_that_does_not_fit_is_refused_not_cut():
    try:
        pack([bytes(0x10000)])
    except ValueError:
        return
    raise AssertionError("packed")
