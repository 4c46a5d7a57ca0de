"""EXI by arithmetic, for messages whose shape was seen before.

Two messages of one shape have the same members, the same texts and numbers, and octet strings of
the same lengths. Value references, which ISO 15118 switches off, would be between them; without,
an octet string is coded as its length and then as it is: a run of bits at a place of its own, and
the only bits that differ. So the codec is asked once what the others are and where the runs lie,
and from then on bits are put in and taken out.

`encode`, `fragment` and `decode` give what `evcc.exi` gives, and leave to it what they do not know
and what is wrong. A shape is learnt when it comes a second time, and a limited number is kept:
who sends ever new ones costs what `evcc.exi` costs. Nothing is assumed of the codec that is not
looked at: what one learns must make the very bytes the codec made, or is not kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from evcc import exi

Message = dict[str, Any]

MOST = 512  # shapes of one kind: an operator's certificates come in a few lengths
ALIKE = 16  # messages of one length that differ in more than their octets

Shape = tuple[Any, ...]
Value = bytes | str
Learnt = TypeVar("Learnt")

TEXT = "value"  # the one text that is another in every message: the content of eMAID
_END = object()


class _Strange(Exception):
    """A value that has no shape."""


def look(message: Any) -> tuple[Shape, list[Value]] | None:
    """A message's shape, and what it says nothing of, in order: the octet strings, and TEXT.
    None for what the codec would refuse."""
    if type(message) is not dict:
        return None
    values: list[Value] = []
    try:
        return _look(message.items(), values.append), values
    except _Strange:
        return None


def _look(items: Iterable[tuple[Any, Any]], take: Callable[[Value], None]) -> Shape:
    """Of the members of an object, or of a list's with their numbers for names."""
    shape: list[Any] = []
    for name, item in items:
        kind = type(item)
        if kind is bytes:
            take(item)
            shape.append((name, bytes, len(item)))
        elif kind is dict:
            shape.append((name, dict, _look(item.items(), take)))
        elif kind is str:
            if name == TEXT and item.isascii():
                take(item)
                shape.append((name, TEXT, len(item)))
            else:
                shape.append((name, str, item))
        elif kind is list:
            shape.append((name, list, _look(enumerate(item), take)))
        elif kind is int or kind is bool:
            shape.append((name, kind, item))
        else:
            raise _Strange
    return tuple(shape)


def fill(message: Message, values: Iterator[Value]) -> Message:
    """A message of the same shape with other values."""
    return {name: _fill(name, item, values) for name, item in message.items()}


def _fill(name: Any, item: Any, values: Iterator[Value]) -> Any:
    kind = type(item)
    if kind is bytes or (name == TEXT and kind is str and item.isascii()):
        return next(values)
    if kind is dict:
        return {name: _fill(name, inner, values) for name, inner in item.items()}
    if kind is list:
        return [_fill(None, inner, values) for inner in item]
    return item


class Known(Generic[Learnt]):
    """What was learnt of shapes. None: that there is nothing to learn."""

    def __init__(self) -> None:
        self._learnt: dict[Shape, Learnt | None] = {}
        self._once: dict[int, None] = {}

    def get(self, shape: Shape, learn: Callable[[], Learnt | None]) -> Learnt | None:
        """`learn` is asked when a shape comes for the second time."""
        found = self._learnt.get(shape)
        if found is not None or shape in self._learnt:
            return found
        mark = hash(shape)
        if mark not in self._once:
            _keep(self._once, mark, None)
            return None
        found = learn()
        _keep(self._learnt, shape, found)
        return found


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """The oldest goes for it."""
    if len(kept) >= MOST:
        kept.pop(next(iter(kept)), None)
    kept[key] = value


@dataclass(frozen=True)
class _Bits:
    """`rest`: the bits with all values zero; `shifts`: of each value, from the end; `size`: in
    octets."""

    rest: int
    size: int
    shifts: tuple[int, ...]

    def put(self, values: list[Value]) -> bytes:
        bits = self.rest
        for value, shift in zip(values, self.shifts, strict=True):
            octets = value if type(value) is bytes else value.encode()  # type: ignore[union-attr]
            bits |= int.from_bytes(octets, "big") << shift
        return bits.to_bytes(self.size, "big")


def _zeros(value: Value) -> Value:
    return bytes(len(value)) if isinstance(value, bytes) else "\0" * len(value)


def _ones(value: Value) -> Value:
    return b"\xff" * len(value) if isinstance(value, bytes) else "\x7f" * len(value)


def _run(value: Value) -> int:
    """The bits that are a value's: a character has seven of its octet."""
    ones = _ones(value)
    return int.from_bytes(ones if isinstance(ones, bytes) else ones.encode(), "big")


def _learn(message: Any, values: list[Value], code: Callable[[Any], bytes]) -> _Bits | None:
    zeros = [_zeros(value) for value in values]
    try:
        blank = code(fill(message, iter(zeros)))
        rest, shifts = int.from_bytes(blank, "big"), []
        for at, value in enumerate(values):
            ones = [*zeros[:at], _ones(value), *zeros[at + 1 :]]
            run = int.from_bytes(code(fill(message, iter(ones))), "big") ^ rest
            shift = (run & -run).bit_length() - 1 if run else 0
            if run >> shift != _run(value):
                return None
            shifts.append(shift)
        found = _Bits(rest, len(blank), tuple(shifts))
        return found if found.put(values) == code(message) else None
    except (exi.ExiError, OverflowError):
        return None


_codings: Known[_Bits] = Known()


def _coded(what: tuple[Any, ...], message: Any, code: Callable[[Any], bytes]) -> bytes:
    """`what`: all that `code` depends on beside the message."""
    seen = look(message)
    if seen is None:
        return code(message)
    shape, values = seen
    bits = _codings.get((*what, *shape), lambda: _learn(message, values, code))
    return bits.put(values) if bits else code(message)


def encode(message: Message) -> bytes:
    """As `exi.encode`, of the ISO 15118-2 schema."""
    return _coded(("document",), message, exi.encode)


def fragment(name: str, value: Any, schema: str = "iso2", typed: bool = False) -> bytes:
    """As `exi.fragment`."""
    return _coded(
        (name, schema, typed), value, lambda value: exi.fragment(name, value, schema, typed)
    )


@dataclass(frozen=True)
class _Form:
    """Messages of one shape, as bits. `values`: of one of them; `fixed`: the bits that are no
    value's."""

    message: Message
    bits: _Bits
    values: list[Value]
    fixed: int

    def read(self, given: int) -> Message:
        return fill(self.message, self._values(given))

    def _values(self, given: int) -> Iterator[Value]:
        for old, shift in zip(self.values, self.bits.shifts, strict=True):
            size = len(old)
            octets = (given >> shift & (1 << 8 * size) - 1).to_bytes(size, "big")
            yield octets if isinstance(old, bytes) else octets.decode()


_forms: dict[int, list[_Form]] = {}


def decode(raw: bytes) -> Message:
    """As `exi.decode`, of the ISO 15118-2 schema."""
    given = int.from_bytes(raw, "big")
    for form in _forms.get(len(raw), ()):
        if (given ^ form.bits.rest) & form.fixed == 0:
            return form.read(given)
    message: Message = exi.decode(raw)
    _remember(message, raw)
    return message


def _remember(message: Message, raw: bytes) -> None:
    seen = look(message)
    if seen is None:
        return
    shape, values = seen
    bits = _codings.get(("document", *shape), lambda: _learn(message, values, exi.encode))
    if bits is None or bits.put(values) != raw:  # there may be other ways to say the same
        return
    runs = sum(_run(value) << at for value, at in zip(values, bits.shifts, strict=True))
    form = _Form(message, bits, values, (1 << 8 * len(raw)) - 1 ^ runs)
    alike = _forms.pop(len(raw), [])
    _keep(_forms, len(raw), [form, *alike[: ALIKE - 1]])
