"""Any message of the schemas survives EXI and JSON; any bytes are a message or one error."""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evcc import exi
from evcc.exi import grammar as g
from exi_messages import ROOTS, documents
from plugvault import exi_json

CORPUS = json.loads((Path(__file__).parents[1] / "vectors/exi_corpus.json").read_text())["vectors"]
DOCUMENTS = [
    (bytes.fromhex(row["exi"]), row["schema"]) for row in CORPUS if row["form"] == "document"
]


@pytest.mark.parametrize(("schema", "root"), ROOTS)
def test_every_root_survives(schema: str, root: str) -> None:
    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    @given(documents(schema, root))
    def survives(message: dict[str, Any]) -> None:
        data = exi.encode(message, schema)
        assert exi.decode(data, schema) == message
        text = json.dumps(exi_json.to_json(message, schema))
        assert exi_json.from_json(json.loads(text), schema) == message

    survives()


def decodes(data: bytes, schema: str) -> None:
    """Either a message that can be written, or ExiError."""
    try:
        message = exi.decode(data, schema)
    except exi.ExiError:
        return
    assert exi.decode(exi.encode(message, schema), schema) == message


START = st.sampled_from([b"", b"\x80", b"\x80\x98\x00", b"\x80\x98\x02", b"\x80\x00", b"\x80\x40"])


@settings(max_examples=300)
@given(START, st.binary(max_size=300), st.sampled_from(["iso2", "sap", "xmldsig"]))
def test_any_bytes_are_a_message_or_an_error(start: bytes, end: bytes, schema: str) -> None:
    decodes(start + end, schema)


@settings(max_examples=300)
@given(st.sampled_from(DOCUMENTS), st.lists(st.tuples(st.integers(0), st.integers(0, 7))))
def test_any_wrong_bit_gives_a_message_or_an_error(
    document: tuple[bytes, str], flips: list[tuple[int, int]]
) -> None:
    data = bytearray(document[0])
    for at, bit in flips:
        data[at % len(data)] ^= 1 << bit
    decodes(bytes(data), document[1])


@given(st.sampled_from(DOCUMENTS), st.data())
def test_every_truncation_is_an_error(document: tuple[bytes, str], data: st.DataObject) -> None:
    octets, schema = document
    octets = octets.rstrip(b"\0")
    with pytest.raises(exi.ExiError):
        exi.decode(octets[: data.draw(st.integers(0, len(octets) - 1))], schema)


@given(st.sampled_from(DOCUMENTS), st.binary(max_size=20).filter(any))
def test_other_octets_after_the_end_are_an_error(
    document: tuple[bytes, str], octets_after: bytes
) -> None:
    with pytest.raises(exi.ExiError) as caught:
        exi.decode(document[0] + octets_after, document[1])
    assert caught.value.reason == "trailing"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@given(st.sampled_from(DOCUMENTS), JSON, st.data())
def test_any_wrong_member_gives_a_message_or_an_error(
    document: tuple[bytes, str], wrong: Any, data: st.DataObject
) -> None:
    octets, schema = document
    message = exi_json.to_json(exi.decode(octets, schema), schema)
    place: Any = message
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            place[key] = wrong
            break
        place = inner
    try:
        parsed = exi_json.from_json(message, schema)
        assert exi.decode(exi.encode(parsed, schema), schema)
    except exi.ExiError:
        pass


def test_hostile_bytes_cost_little() -> None:
    # After each root, the same octet over and over: the densest lists, the longest numbers.
    for schema in ("iso2", "sap", "xmldsig"):
        width = g.bits(len(g.load(schema).roots()))
        for code in range(len(g.load(schema).roots())):
            for octet in (0x00, 0x08, 0x11, 0x22, 0x55, 0x80, 0xAA, 0xFF):
                start = (0x80 << width | code) << (-width % 8)
                data = start.to_bytes(1 + (width + 7) // 8, "big") + bytes([octet]) * 4096
                tracemalloc.start()
                started = time.process_time()
                decodes(data, schema)
                assert time.process_time() - started < 1.0
                assert tracemalloc.get_traced_memory()[1] < 2_000_000
                tracemalloc.stop()
