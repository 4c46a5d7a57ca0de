"""Strategies of hypothesis: any message, and any element, of the EXI codec's schemas.

A value is a walk through the codec's grammar, so it is all that the schema allows, without the
length facets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st

from evcc.exi import grammar as g

SCHEMAS = ("iso2", "sap", "xmldsig")
ROOTS = [
    (schema, tables.name(index))
    for schema in SCHEMAS
    for tables in [g.load(schema)]
    for index in tables.roots()
    if not tables.element(index)[0] & g.ABSTRACT
    # an element that must contain a foreign one cannot be written
    if not tables.name(index).startswith("SignatureProp")
]
LONG = 12  # events of one element, after which it ends as soon as it may


@dataclass(frozen=True)
class Leaves:
    """The strings and the octets of generated values."""

    text: st.SearchStrategy[str]
    octets: st.SearchStrategy[bytes]


ANY = Leaves(
    st.text(max_size=30) | st.text(alphabet="aZ#/:.", min_size=100, max_size=200),
    st.binary(max_size=20) | st.binary(min_size=100, max_size=300),
)

# XML has no other characters, and drops spaces at the ends. A value without characters is no event
# for an XML parser: EXIficient then ends the element instead.
_VISIBLE = st.characters(min_codepoint=0x21, exclude_categories=("Cc", "Cn", "Cs", "Z"))
XML = Leaves(
    st.text(_VISIBLE, min_size=1, max_size=30) | st.text("aZ#/:.", min_size=100, max_size=200),
    st.binary(min_size=1, max_size=20) | st.binary(min_size=100, max_size=300),
)


def numbers(low: int | None, high: int | None) -> st.SearchStrategy[int]:
    ends = [value for value in (low, high, 0, 127, 128) if value is not None]
    inside = [v for v in ends if (low is None or v >= low) and (high is None or v <= high)]
    return st.sampled_from(inside) | st.integers(low, high)


def _value(draw: st.DrawFn, tables: g.Grammar, kind: int, detail: Any, leaves: Leaves) -> Any:
    if kind == g.COMPLEX:
        return _content(draw, tables, detail, leaves)
    if kind == g.STRING:
        return draw(leaves.text)
    if kind in (g.BASE64, g.HEX):
        return draw(leaves.octets)
    if kind == g.BOOLEAN:
        return draw(st.booleans())
    if kind == g.ENUM:
        return tables.name(detail[0] + draw(st.integers(0, detail[1] - 1)))
    if kind == g.BITS:
        return draw(numbers(detail[0], detail[0] + detail[1]))
    low = -(1 << 200) if detail[0] is None else detail[0]
    return draw(numbers(low, 1 << 200 if detail[1] is None else detail[1]))


def _content(draw: st.DrawFn, tables: g.Grammar, state: Any, leaves: Leaves) -> dict[str, Any]:
    """A value made by a walk through the grammar; hypothesis shrinks it to the shortest walk."""
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
        item = _value(draw, tables, kind & g.KIND, detail, leaves)
        if not most:
            element[name] = item
        else:
            items = element.setdefault(name, [])
            items.append(item)
            if full is not None and len(items) == most:
                state = full
    raise AssertionError("an element without end")


@st.composite
def elements(draw: st.DrawFn, schema: str, index: int, leaves: Leaves = ANY) -> Any:
    """The value of an element, by its index in the tables. An element with two types has its
    complex one."""
    tables = g.load(schema)
    flags, place = tables.element(index)
    if flags & g.RELAXED:
        flags, place = g.ELEMENT, tables.u16(place)
    return _value(draw, tables, *tables.type(flags, place), leaves)


def documents(schema: str, root: str, leaves: Leaves = ANY) -> st.SearchStrategy[dict[str, Any]]:
    """A message, {root: its value}."""
    tables = g.load(schema)
    index = next(i for i in tables.roots() if tables.name(i) == root)
    return elements(schema, index, leaves).map(lambda value: {root: value})


def cases(whole: bool, few: int, many: int) -> Callable[[Callable[..., None]], Any]:
    """The settings of a generated test: the same cases every time."""
    count = many if whole else few

    def decorate(test: Callable[..., None]) -> Any:
        limits = settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        return seed(15118)(limits(test))

    return decorate
