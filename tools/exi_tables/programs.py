"""Components to the byte programs that `evcc.exi.grammar` unfolds into EXI grammars.

Each complex type is a small program (attributes in order, then the content model, then END); a
grammar state is a place in it. The opcodes and their layout are described in `grammar.py`, which
is where they are read. A list of a thousand is one counted instruction, not a thousand states.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

from xsd import UNBOUNDED, Complex, Element, Particle, Schema, SchemaError, Simple

from evcc.exi import grammar as g

_NAMED = (g.ELEMENT, g.SIMPLE, g.ATTRIBUTE)

_KINDS = {
    "string": g.STRING,
    "base64": g.BASE64,
    "hex": g.HEX,
    "boolean": g.BOOLEAN,
    "enum": g.ENUM,
    "integer": g.INTEGER,
}


class Tables:
    """The finished tables of one schema: `elements`, `attributes`, `offsets`, `code`, `names`,
    `pairs`. uris: the namespace of each element and attribute, in the order of the names."""

    def __init__(self, schema: Schema) -> None:
        self.code = bytearray()
        self._done: dict[bytes, int] = {}
        self._types: dict[Complex, int] = {}
        declared: dict[tuple[str, str], list[Element]] = {}
        for element in schema.elements:
            declared.setdefault(element.qname, []).append(element)
        self._elements = {q: i for i, q in enumerate(sorted(declared))}
        attributes = sorted({(a.local, a.uri) for a in schema.attributes})
        self._attributes = {q: len(declared) + i for i, q in enumerate(attributes)}
        self._strings = [q[0] for q in [*self._elements, *attributes]]
        self.uris = [q[1] for q in [*self._elements, *attributes]]
        self._enums: dict[tuple[str, ...], int] = {}
        self.attributes = len(attributes)
        self.elements = b"".join(
            self._entry(declared[q], [e for e in schema.globals if e.qname == q])
            for q in self._elements
        )
        names = list(dict.fromkeys(self._strings))
        self.names, self.pairs = _packed(b"\0" + b"".join(n.encode() + b"\0" for n in names))
        starts = [i + 1 for i, octet in enumerate(self.names) if not octet]
        at = dict(zip(names, starts, strict=False))
        self.offsets = b"".join(struct.pack(">H", at[text]) for text in self._strings)
        if len(self.code) > 0xFFFF or len(self.names) > 0xFFFF:
            raise SchemaError("tables above 64 KiB")

    def _entry(self, elements: list[Element], roots: list[Element]) -> bytes:
        """One row of the element table: how a root or a fragment of this name is coded."""
        types = {e.definition: e.type for e in elements}
        if len(types) == 1:
            flags, place = self._element_type(elements[0].type)
        else:  # 8.5.3: several types, so the relaxed grammar
            if roots:
                raise SchemaError("global element of a name with several types")
            shapes = dict(self._element_type(t) for t in types.values())
            if len(shapes) != len(types):  # a value tells a complex type from a simple one
                raise SchemaError("several types of one shape for " + elements[0].local)
            row = struct.pack(">HH", shapes[g.ELEMENT], shapes[g.SIMPLE])
            flags, place = g.RELAXED, self._place(row)
        if roots:
            flags |= g.GLOBAL | (g.ABSTRACT if roots[0].abstract else 0)
        return struct.pack(">BH", flags, place)

    def _place(self, row: bytes) -> int:
        if row not in self._done:
            self._done[row] = len(self.code)
            self.code += row
        return self._done[row]

    # -- types ------------------------------------------------------------------------------

    def _element_type(self, kind: Simple | Complex) -> tuple[int, int]:
        if isinstance(kind, Simple):
            return g.SIMPLE, self._simple(kind)
        return g.ELEMENT, self._complex(kind)

    def _simple(self, kind: Simple) -> int:
        row = bytes([_KINDS[kind.kind]])
        if kind.kind == "enum":
            if kind.values not in self._enums:
                self._enums[kind.values] = len(self._strings)
                self._strings += kind.values
            row += struct.pack(">HH", self._enums[kind.values], len(kind.values))
        elif kind.kind == "integer":
            low, high = kind.low, kind.high
            if low is not None and high is not None and high - low < 4096:  # 7.1.5
                row = struct.pack(">BhH", g.BITS, low, high - low)
            else:
                if low is not None and low >= 0:
                    row = bytes([g.UNSIGNED])
                row += _bound(low) + _bound(high)
        return self._place(row)

    def _complex(self, kind: Complex) -> int:
        if kind in self._types:
            return self._types[kind]
        mixed = g.MIXED if kind.mixed else 0
        program = b"".join(
            _operand(
                g.ATTRIBUTE | (0 if a.required else g.OPTIONAL),
                self._attributes[a.local, a.uri],
                self._simple(a.type),
            )
            for a in kind.attributes
        )
        if isinstance(kind.content, Simple):
            if mixed:
                raise SchemaError("mixed simple content")
            program += _operand(g.TEXT, 0, self._simple(kind.content))
        elif kind.content:
            often = _occurrences(kind.content)
            program += self._particle(kind.content, mixed, often)
        program += bytes([g.END | mixed])
        place = self._place(program)
        self._types[kind] = place
        self._check(place)
        return place

    def _check(self, place: int) -> None:
        """No state may offer one member twice: the walker takes the first."""
        grammar = g.Grammar(SimpleNamespace(CODE=self.code))
        seen, waiting = set(), [place]
        while waiting:
            key = waiting.pop()
            if key in seen:
                continue
            seen.add(key)
            events = grammar.closure(key)
            names = [self._member(p) for p in events if self.code[p] & g.OP in _NAMED]
            if len(set(names)) != len(names):
                raise SchemaError("ambiguous content model: " + ", ".join(names))
            waiting += [k for p in events for k in grammar.after(p)]

    def _member(self, at: int) -> str:
        return self._strings[int.from_bytes(self.code[at + 1 : at + 3], "big")]

    # -- content models ---------------------------------------------------------------------

    def _particle(self, particle: Particle, mixed: int, often: Counter[str]) -> bytes:
        low, high, kind = particle.low, particle.high, particle.kind
        if kind == "any":  # taking it is refused, so it needs no repetition
            return bytes([g.ANY | mixed | (0 if low else g.OPTIONAL)])
        if kind == "element" and len(particle.item) == 1:
            return self._counted(particle.item[0], low, high, mixed, often)
        if kind == "element":
            elements = [self._counted(e, 1, 1, mixed, often) for e in particle.item]
            body = _choice(elements)
        else:
            parts = [self._particle(p, mixed, often) for p in particle.item]
            body = _choice(parts) if kind == "choice" else b"".join(parts)
        if not body or (low, high) == (1, 1):
            return body
        if (low, high) == (0, 1):
            return _jump(g.SPLIT, len(body)) + body
        if kind == "sequence" and sum(p.kind != "any" for p in particle.item) > 1:
            raise SchemaError("repeated sequence: lists of members would lose its order")
        if (low, high) == (0, UNBOUNDED):
            return _jump(g.SPLIT, len(body) + 3) + body + _jump(g.JUMP, -len(body) - 6)
        if (low, high) == (1, UNBOUNDED):
            return body + _jump(g.SPLIT, -len(body) - 3)
        raise SchemaError(f"group of {low} to {high}")

    def _counted(
        self, element: Element, low: int, high: int, mixed: int, often: Counter[str]
    ) -> bytes:
        op, place = self._element_type(element.type)
        op |= mixed | (g.ABSTRACT if element.abstract else 0)
        name = self._elements[element.qname]
        many = often[element.local] > 1
        before = b""
        if low > 1:  # the first ones can only go on; the maximum is of the whole list
            before = _operand(op | g.LIST, name, place, 1) * (low - 1)
        op |= 0 if low else g.OPTIONAL
        if not many:
            return _operand(op, name, place)
        return before + _operand(op | g.LIST, name, place, high)


def _occurrences(particle: Particle) -> Counter[str]:
    """How often each name can occur at most (2 for any more than 1)."""
    total: Counter[str] = Counter()
    for item in particle.item:
        if isinstance(item, Element):
            total |= Counter({item.local: 1})
        elif particle.kind == "choice":
            total |= _occurrences(item)
        else:
            total += _occurrences(item)
    if particle.high != 1:
        total += total
    return total


def _choice(parts: list[bytes]) -> bytes:
    """SPLIT to the next branch, the branch, JUMP to the end; the last needs neither."""
    body = parts[-1]
    for part in reversed(parts[:-1]):
        body = _jump(g.SPLIT, len(part) + 3) + part + _jump(g.JUMP, len(body)) + body
    return body


def _jump(op: int, distance: int) -> bytes:
    """`distance` counts from the end of this instruction, the operand from its start."""
    return struct.pack(">BH", op, distance + 3 & 0xFFFF)


def _operand(op: int, name: int, place: int, high: int | None = None) -> bytes:
    row = struct.pack(">BHH", op, name, place)
    return row if high is None else row + struct.pack(">H", high)


def _bound(value: int | None) -> bytes:
    """Length octet and magnitude; 255 is no bound."""
    if value is None:
        return b"\xff"
    size = (abs(value).bit_length() + 7) // 8
    return bytes([size]) + abs(value).to_bytes(size, "big")


def _packed(names: bytes) -> tuple[bytes, bytes]:
    """Byte pair encoding: octets from 128 on stand for the pairs that were most frequent. Names
    halve; pairs never cross the zeros between names, so each name packs the same by itself."""
    if max(names) > 0x7F:
        raise SchemaError("names beyond ASCII")
    pairs = b""
    for token in range(0x80, 0x100):
        seen = Counter(pair for pair in pairwise(names) if all(pair))
        pair, count = max(seen.items(), key=lambda item: (item[1], item[0]))
        if count < 4:  # three cost two octets of pair to save three
            break
        names = names.replace(bytes(pair), bytes([token]))
        pairs += bytes(pair)
    return names, pairs


def rows(data: bytes, width: int = 22) -> Iterator[str]:
    """The bytes as lines of one implicitly joined literal."""
    for at in range(0, len(data), width):
        yield '    b"' + "".join(f"\\x{b:02x}" for b in data[at : at + width]) + '"'
