"""evcc.der takes any bytes, and reads back what it writes."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from evcc import der


def walk(data: bytes, at: int, end: int, depth: int = 0) -> int:
    """Every element of data[at:end], constructed ones from the inside; how many there are."""
    count = 0
    while at < end:
        tag, start, stop = der.header(data, at, end)
        assert at < start <= stop <= end
        assert der.tlv(tag, data[start:stop]) == data[at:stop], "not in its one form"
        count += 1
        if tag & 0x20 and depth < 50:
            count += walk(data, start, stop, depth + 1)
        at = stop
    return count


@given(st.binary(max_size=300))
def test_any_bytes_are_elements_in_their_one_form_or_an_error(data: bytes) -> None:
    with contextlib.suppress(der.DerError):
        walk(data, 0, len(data))


TREES = st.recursive(
    st.binary(max_size=200).map(lambda content: der.tlv(der.OCTET_STRING, content)),
    lambda inner: st.lists(inner, max_size=5).map(lambda parts: der.tlv(der.SEQUENCE, *parts)),
    max_leaves=20,
)


@given(TREES)
def test_written_elements_read_back(data: bytes) -> None:
    assert walk(data, 0, len(data)) >= 1
    assert der.whole(data, data[0])[1] == len(data)


@given(st.binary(min_size=64, max_size=64))
def test_signatures_survive_both_ways(rs: bytes) -> None:
    value = der.signature_value(rs)
    assert der.raw_signature(value, 0, len(value)) == rs


@given(st.binary(max_size=80))
def test_any_bytes_are_a_signature_in_its_one_form_or_an_error(data: bytes) -> None:
    try:
        rs = der.raw_signature(data, 0, len(data))
    except der.DerError:
        return
    assert der.signature_value(rs) == data
