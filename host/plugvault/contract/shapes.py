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

import marshal
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from json import JSONEncoder
from typing import Any, Generic, NoReturn, TypeVar

from evcc import exi
from plugvault.bounded import keep

Message = dict[str, Any]

MOST = 512  # shapes of one kind: an operator's certificates come in a few lengths
ALIKE = 16  # messages of one length that differ in more than their octets

Shape = str
Value = bytes | str
Learnt = TypeVar("Learnt")

# The one text that is another in every message: the content of eMAID. In a shape it stands as
# JSON, where no other text can look like it.
_TEXT = re.compile(r'"value": "([0-9A-Za-z]+)"')
_PLAIN = re.compile("[0-9A-Za-z]+")


class Fixed(Message):
    """A message, or an element of one, that stays as it is. A deep copy can be changed."""

    def _stay(self, *_: Any) -> NoReturn:
        raise TypeError("this message stays as it is; change a deep copy")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _stay  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> Message:
        return {name: deepcopy(item, memo) for name, item in self.items()}


class Shaped(Fixed):
    """A message whose shape need not be looked for, for who makes it knows it. `kind`: all of the
    shape but how long the values are; `said`: the values, as `look` has them."""

    def __init__(self, members: Message, kind: str, said: Sequence[Value]) -> None:
        super().__init__(members)
        self.kind, self.said = kind, said

    @property
    def shape(self) -> Shape:
        return f"{self.kind} {[*map(len, self.said)]}"


def look(message: Message) -> tuple[Shape, Sequence[Value]] | None:
    """A message's shape, and what it says nothing of: the octet strings in order, and then the
    texts. None for what the codec would refuse."""
    if isinstance(message, Shaped):
        return message.shape, message.said
    values: list[Value] = []

    def octets(value: Any) -> str:
        if type(value) is not bytes:
            raise TypeError
        values.append(value)
        return f"\0{len(value)}"

    def text(found: re.Match[str]) -> str:
        values.append(found[1])
        return f'"value": {len(found[1])}'

    try:  # the library's writer passes through a message faster than anything written here
        return _TEXT.sub(text, JSONEncoder(default=octets).encode(message)), values
    except (TypeError, ValueError, RecursionError):
        return None


def fill(message: Message, values: Sequence[Value]) -> Message:
    """A message of the same shape with other values."""
    octets = iter([value for value in values if isinstance(value, bytes)])
    texts = iter([value for value in values if isinstance(value, str)])
    return {name: _fill(name, item, octets, texts) for name, item in message.items()}


def _fill(name: Any, item: Any, octets: Iterator[bytes], texts: Iterator[str]) -> Any:
    kind = type(item)
    if kind is bytes:
        return next(octets)
    if kind is str:
        return next(texts) if name == "value" and _PLAIN.fullmatch(item) else item
    if isinstance(item, dict):
        return {name: _fill(name, inner, octets, texts) for name, inner in item.items()}
    if kind is list:
        return [_fill(None, inner, octets, texts) for inner in item]
    return item


class Known(Generic[Learnt]):
    """What was learnt of shapes. None: that there is nothing to learn."""

    def __init__(self) -> None:
        self._learnt: dict[Shape, Learnt | None] = {}
        self._once: dict[Shape, None] = {}

    def get(self, shape: Shape, learn: Callable[[], Learnt | None]) -> Learnt | None:
        """`learn` is asked when a shape comes for the second time."""
        found = self._learnt.get(shape)
        if found is not None or shape in self._learnt:
            return found
        if shape not in self._once:
            keep(self._once, MOST, shape, None)
            return None
        found = learn()
        keep(self._learnt, MOST, shape, found)
        return found


@dataclass(frozen=True)
class _Bits:
    """`rest`: the bits of a message, those of its values zero; `shifts`: where each value lies,
    from the end; `size`: in octets."""

    rest: int
    size: int
    shifts: tuple[int, ...]

    def put(self, values: Sequence[Value]) -> bytes:
        bits = self.rest
        for value, shift in zip(values, self.shifts, strict=True):
            octets = value if isinstance(value, bytes) else value.encode()
            bits |= int.from_bytes(octets, "big") << shift
        return bits.to_bytes(self.size, "big")


def _ends(value: Value) -> tuple[Value, Value, int]:
    """Two values of the same length that differ in all bits that are a value's, and those bits: a
    character has seven of its octet."""
    size = len(value)
    if isinstance(value, bytes):
        return bytes(size), b"\xff" * size, (1 << 8 * size) - 1
    return "0" * size, "O" * size, int.from_bytes(b"\x7f" * size, "big")


def _learn(message: Any, values: Sequence[Value], code: Callable[[Any], bytes]) -> _Bits | None:
    low, high, runs = zip(*map(_ends, values), strict=True) if values else ((), (), ())
    try:
        blank = code(fill(message, low))
        rest, shifts = int.from_bytes(blank, "big"), []
        for at, run in enumerate(runs):
            one = code(fill(message, (*low[:at], high[at], *low[at + 1 :])))
            changed = int.from_bytes(one, "big") ^ int.from_bytes(blank, "big")
            shift = (changed & -changed).bit_length() - 1 if changed else 0
            if changed >> shift != run:
                return None
            rest &= ~(run << shift)
            shifts.append(shift)
        found = _Bits(rest, len(blank), tuple(shifts))
        return found if found.put(values) == code(message) else None
    except (exi.ExiError, OverflowError):
        return None


_codings: Known[_Bits] = Known()
_DOCUMENT = ""


def _coded(what: str, message: Any, code: Callable[[Any], bytes]) -> bytes:
    """`what`: all that `code` depends on beside the message."""
    seen = look(message)
    if seen is None:
        return code(message)
    shape, values = seen
    bits = _codings.get(what + shape, lambda: _learn(message, values, code))
    return bits.put(values) if bits else code(message)


def encode(message: Message) -> bytes:
    """As `exi.encode`, of the ISO 15118-2 schema."""
    return _coded(_DOCUMENT, message, exi.encode)


def fragment(name: str, value: Any, schema: str = "iso2", typed: bool = False) -> bytes:
    """As `exi.fragment`."""
    return _coded(
        f"{name} {schema} {typed}", value, lambda value: exi.fragment(name, value, schema, typed)
    )


@dataclass(frozen=True)
class _Form:
    """Messages of one shape, as bits. `values`: of one of them; `fixed`: the bits that are no
    value's; `cast`: the message as `marshal` has it, which makes it faster than anything written
    here, with the places of the values' octets in it."""

    bits: _Bits
    values: Sequence[Value]
    fixed: int
    cast: Sequence[bytes | int]
    parts: tuple["_Part", ...]

    def read(self, given: int) -> Message:
        octets = [
            (given >> shift & (1 << 8 * len(old)) - 1).to_bytes(len(old), "big")
            for old, shift in zip(self.values, self.bits.shifts, strict=True)
        ]
        whole = [octets[one] if isinstance(one, int) else one for one in self.cast]
        # Nothing of it is anybody else's but octets, as many as there were.
        message: Message = marshal.loads(b"".join(whole))  # noqa: S302
        values = [
            one if isinstance(old, bytes) else one.decode()
            for old, one in zip(self.values, octets, strict=True)
        ]
        for part in self.parts:
            part.mark(message, values)
        return message


_MARSHAL = 2  # the last edition that says everything at its place, and twice what comes twice


def _cast(message: Message, values: Sequence[Value]) -> list[bytes | int]:
    ends = [_ends(value)[:2] for value in values]
    low = [one for one, _ in ends]
    blank, places = marshal.dumps(fill(message, low), _MARSHAL), {}
    for at, (_, high) in enumerate(ends):
        if high:
            one = marshal.dumps(fill(message, [*low[:at], high, *low[at + 1 :]]), _MARSHAL)
            places[next(place for place, octet in enumerate(one) if octet != blank[place])] = at
    made: list[bytes | int] = []
    done = 0
    for place, at in sorted(places.items()):
        made += [blank[done:place], at]
        done = place + len(values[at])
    return [*made, blank[done:]]


@dataclass(frozen=True)
class _Part:
    """An element that is coded again, to be verified. `places`: of its values among all."""

    path: tuple[str, ...]
    kind: str
    places: tuple[int, ...]

    def mark(self, message: Message, values: Sequence[Value]) -> None:
        *above, last = self.path
        for name in above:
            message = message[name]
        message[last] = Shaped(message[last], self.kind, [values[at] for at in self.places])


_VERIFIED = (
    ("V2G_Message", "Header", "Signature", "SignedInfo"),
    ("V2G_Message", "Body", "CertificateInstallationReq"),
)


def _parts(message: Message, values: Sequence[Value]) -> Iterator[_Part]:
    marks = [
        at.to_bytes(2, "big") if isinstance(value, bytes) else str(at)
        for at, value in enumerate(values)
    ]
    marked = fill(message, marks)
    for path in _VERIFIED:
        part: Any = marked
        for name in path:
            part = part.get(name, {})
        seen = look(part) if part else None
        if seen:
            yield _Part(path, seen[0], tuple(map(marks.index, seen[1])))


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
    bits = _codings.get(_DOCUMENT + shape, lambda: _learn(message, values, exi.encode))
    if bits is None or bits.put(values) != raw:  # there may be other ways to say the same
        return
    runs = sum(_ends(value)[2] << at for value, at in zip(values, bits.shifts, strict=True))
    fixed = (1 << 8 * len(raw)) - 1 ^ runs
    parts = tuple(_parts(message, values))
    form = _Form(bits, values, fixed, _cast(message, values), parts)
    if form.read(int.from_bytes(raw, "big")) != message:
        return
    alike = _forms.pop(len(raw), [])
    keep(_forms, MOST, len(raw), [form, *alike[: ALIKE - 1]])
