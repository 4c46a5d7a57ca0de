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
from plugvault import exi_json

CORPUS = json.loads((Path(__file__).parents[1] / "vectors/exi_corpus.json").read_text())["vectors"]
DOCUMENTS = [
    (bytes.fromhex(row["exi"]), row["schema"]) for row in CORPUS if row["form"] == "document"
]
ROOTS = [
    (schema, tables.name(index))
    for schema in ("iso2", "sap", "xmldsig")
    for tables in [g.load(schema)]
    for index in tables.roots()
    if not tables.element(index)[0] & g.ABSTRACT
    # an element that must contain a foreign one cannot be written
    if not tables.name(index).startswith("SignatureProp")
]
LONG = 12  # events of one element, after which it ends as soon as it may

TEXT = st.text(max_size=30) | st.text(alphabet="aZ#/:.", min_size=100, max_size=200)


def numbers(low: int | None, high: int | None) -> st.SearchStrategy[int]:
    ends = [value for value in (low, high, 0, 127, 128) if value is not None]
    inside = [v for v in ends if (low is None or v >= low) and (high is None or v <= high)]
    return st.sampled_from(inside) | st.integers(low, high)


def value(draw: st.DrawFn, tables: g.Grammar, kind: int, detail: Any) -> Any:
    if kind == g.COMPLEX:
        return content(draw, tables, detail)
    if kind == g.STRING:
        return draw(TEXT)
    if kind in (g.BASE64, g.HEX):
        return draw(st.binary(max_size=20) | st.binary(min_size=100, max_size=300))
    if kind == g.BOOLEAN:
        return draw(st.booleans())
    if kind == g.ENUM:
        return tables.name(detail[0] + draw(st.integers(0, detail[1] - 1)))
    if kind == g.BITS:
        return draw(numbers(detail[0], detail[0] + detail[1]))
    low = -(1 << 200) if detail[0] is None else detail[0]
    return draw(numbers(low, 1 << 200 if detail[1] is None else detail[1]))


def content(draw: st.DrawFn, tables: g.Grammar, state: Any) -> dict[str, Any]:
    """A walk through the grammar, writing down what it passes; the way out is the simplest."""
    element: dict[str, Any] = {}
    for step in range(1000):
        if state[2] is None:
            tables.fill(state)
        events = [
            tables.event(state[2], code) if isinstance(at, int) else at
            for code, at in enumerate(state[2])
        ]
        events = [event for event in events if event[0] & g.KIND != g.REFUSED]
        event = events[-1] if step > LONG else draw(st.sampled_from(events[::-1]))
        kind, name, detail, state, most, full = event
        if kind == g.STOP:
            return element
        item = value(draw, tables, kind & g.KIND, detail)
        if not most:
            element[name] = item
        else:
            items = element.setdefault(name, [])
            items.append(item)
            if full is not None and len(items) == most:
                state = full
    raise AssertionError("an element without end")


@st.composite
def documents(draw: st.DrawFn, schema: str, root: str) -> dict[str, Any]:
    tables = g.load(schema)
    index = next(i for i in tables.roots() if tables.name(i) == root)
    kind, detail = tables.type(*tables.element(index))
    return {root: value(draw, tables, kind, detail)}


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
def test_any_bit_may_be_wrong(document: tuple[bytes, str], flips: list[tuple[int, int]]) -> None:
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
def test_any_member_may_be_wrong(
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
