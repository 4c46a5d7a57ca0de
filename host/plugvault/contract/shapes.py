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
from collections.abc import Callable, Hashable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import repeat
from json import JSONEncoder
from operator import and_, itemgetter, lshift, or_, rshift
from typing import Any, Generic, NoReturn, TypeVar

from evcc import exi, signature
from plugvault.bounded import keep

Message = dict[str, Any]

MOST = 512  # shapes of one kind: an operator's certificates come in a few lengths
LENGTHS = 128  # of messages that are read
ALIKE = 16  # messages of one length that differ in more than their octets
LARGEST = 8192  # of a shape and its values: an installation response has some 5,000

Shape = Hashable
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

    def __init__(self, members: Message, kind: Shape, said: Sequence[Value]) -> None:
        super().__init__(members)
        self.kind, self.said = kind, said

    @property
    def shape(self) -> Shape:
        return self.kind, *map(len, self.said)


def look(message: Message) -> tuple[Shape, Sequence[Value]] | None:
    """A message's shape, and what it says nothing of: the octet strings in order, and then the
    texts. None for what the codec would refuse, and for what is too large to be kept."""
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
        shape = _TEXT.sub(text, JSONEncoder(default=octets).encode(message))
    except (TypeError, ValueError, RecursionError):
        return None
    return (shape, values) if len(shape) + sum(map(len, values)) <= LARGEST else None


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
        self._learnt: dict[Hashable, Learnt | None] = {}
        self._once: dict[Hashable, None] = {}
        self.found = self._learnt.get

    def get(self, shape: Hashable, learn: Callable[[], Learnt | None]) -> Learnt | None:
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


_number: Callable[[Any, Any], int] = int.from_bytes
_octets: Callable[[Any, Any, Any], bytes] = int.to_bytes


class _Bits:
    """`rest`: the bits of a message, those of its values zero; `size`: in octets; `runs`: where
    each value lies, from the end, and how long it is, in octets; `texts`: values that are none.

    What follows the values one by one is left to `map`, which needs no interpreter for it."""

    def __init__(
        self, rest: int, size: int, runs: Sequence[tuple[int, int]], texts: Sequence[int]
    ) -> None:
        self.rest, self.runs, self.texts = rest, runs, texts
        spans = [_span(size, shift, length) for shift, length in runs]
        order = sorted(range(len(runs)), key=lambda at: spans[at].start)
        self._ordered = _picker(order)
        self._as_given = _picker(sorted(range(len(order)), key=order.__getitem__))
        self._texts = [order.index(at) for at in texts]
        self._spans = [spans[at] for at in order]
        blank, done = rest.to_bytes(size, "big"), 0
        self._between: list[bytes] = []
        for span in self._spans:
            if span.start < done:
                raise ValueError("two values share an octet")
            self._between += [blank[done : span.start], b""]
            done = span.stop
        self._between.append(blank[done:])
        self._shifts = [runs[at][0] & 7 for at in order]
        self._around = [int.from_bytes(blank[span], "big") for span in self._spans]
        self._sizes = [span.stop - span.start for span in self._spans]
        self._lengths = [runs[at][1] for at in order]
        self._ones = [(1 << 8 * length) - 1 for length in self._lengths]

    def put(self, values: Sequence[Value]) -> bytes:
        octets = list(self._ordered(values))
        for at in self._texts:
            octets[at] = octets[at].encode()
        numbers = map(lshift, map(_number, octets, repeat("big")), self._shifts)
        made = list(self._between)
        made[1::2] = map(_octets, map(or_, numbers, self._around), self._sizes, repeat("big"))
        return b"".join(made)

    def take(self, raw: bytes) -> list[Any]:
        """The octets of the values."""
        parts = map(_number, map(raw.__getitem__, self._spans), repeat("big"))
        numbers = map(and_, map(rshift, parts, self._shifts), self._ones)
        found = list(map(_octets, numbers, self._lengths, repeat("big")))
        return list(self._as_given(found))


def _picker(order: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What gives these of a sequence."""
    return itemgetter(*order) if len(order) > 1 else lambda values: values


def _span(size: int, shift: int, length: int) -> slice:
    """The octets in which a value's bits are."""
    return (
        slice(size - (shift + 8 * length + 7) // 8, size - shift // 8) if length else slice(0, 0)
    )


def _ends(value: Value) -> tuple[Value, Value, int]:
    """Two values of the same length that differ in all bits that are a value's, and those bits: a
    character has seven of its octet."""
    size = len(value)
    if isinstance(value, bytes):
        return bytes(size), b"\xff" * size, (1 << 8 * size) - 1
    return "0" * size, "O" * size, int.from_bytes(b"\x7f" * size, "big")


def _texts(values: Sequence[Value]) -> list[int]:
    return [at for at, value in enumerate(values) if isinstance(value, str)]


def _learn(message: Any, values: Sequence[Value], code: Callable[[Any], bytes]) -> _Bits | None:
    low, high, runs = zip(*map(_ends, values), strict=True) if values else ((), (), ())
    try:
        blank = code(fill(message, low))
        rest, found = int.from_bytes(blank, "big"), []
        for at, run in enumerate(runs):
            one = code(fill(message, (*low[:at], high[at], *low[at + 1 :])))
            changed = int.from_bytes(one, "big") ^ int.from_bytes(blank, "big")
            shift = (changed & -changed).bit_length() - 1 if changed else 0
            if changed >> shift != run:
                return None
            rest &= ~(run << shift)
            found.append((shift, len(values[at])))
        bits = _Bits(rest, len(blank), found, _texts(values))
        return bits if bits.put(values) == code(message) else None
    except (exi.ExiError, OverflowError, ValueError):
        return None


_codings: Known[_Bits] = Known()


def _coded(what: tuple[Any, ...], message: Any, code: Callable[..., bytes]) -> bytes:
    """`what`: all that `code` depends on beside the message."""
    seen = look(message)
    if seen is None:
        return code(message, *what)
    shape, values = seen
    bits = _codings.found((what, shape)) or _codings.get(
        (what, shape), lambda: _learn(message, values, lambda one: code(one, *what))
    )
    return bits.put(values) if bits else code(message, *what)


def encode(message: Message) -> bytes:
    """As `exi.encode`, of the ISO 15118-2 schema."""
    return _coded((), message, exi.encode)


def fragment(name: str, value: Any, schema: str = "iso2", typed: bool = False) -> bytes:
    """As `exi.fragment`."""
    return _coded((name, schema, typed), value, _fragment)


def _fragment(value: Any, name: str, schema: str, typed: bool) -> bytes:
    return exi.fragment(name, value, schema, typed)


@dataclass(frozen=True)
class _Form:
    """Messages of one shape, as bits. `fixed`: the bits that are no value's; `cast`: the message
    as `marshal` has it, which makes it faster than anything written here, with empty places for
    the values' octets; `places`: in it, with whose they are."""

    bits: _Bits
    fixed: int
    cast: Sequence[bytes]
    places: Sequence[tuple[int, int]]
    parts: tuple["_Part", ...]

    def read(self, raw: bytes) -> Message:
        values = self.bits.take(raw)
        whole = list(self.cast)
        for place, at in self.places:
            whole[place] = values[at]
        # Nothing of it is anybody else's but octets, as many as there were.
        message: Message = marshal.loads(b"".join(whole))  # noqa: S302
        for at in self.bits.texts:
            values[at] = values[at].decode()
        for part in self.parts:
            part.mark(message, values)
        return message


_MARSHAL = 2  # the last edition that says everything at its place, and twice what comes twice


def _cast(message: Message, values: Sequence[Value]) -> tuple[list[bytes], list[tuple[int, int]]]:
    ends = [_ends(value)[:2] for value in values]
    low = [one for one, _ in ends]
    blank, places = marshal.dumps(fill(message, low), _MARSHAL), {}
    for at, (_, high) in enumerate(ends):
        if high:
            one = marshal.dumps(fill(message, [*low[:at], high, *low[at + 1 :]]), _MARSHAL)
            places[next(place for place, octet in enumerate(one) if octet != blank[place])] = at
    made: list[bytes] = []
    slots = []
    done = 0
    for place, at in sorted(places.items()):
        made += [blank[done:place], b""]
        slots.append((len(made) - 1, at))
        done = place + len(values[at])
    return [*made, blank[done:]], slots


@dataclass(frozen=True)
class _Part:
    """An element that is coded again, to be verified. `places`: of its values among all."""

    path: tuple[str, ...]
    kind: Shape
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
            return form.read(raw)
    message: Message = exi.decode(raw)
    _remember(message, raw)
    return message


def _remember(message: Message, raw: bytes) -> None:
    seen = look(message)
    if seen is None:
        return
    shape, values = seen
    bits = _codings.get(((), shape), lambda: _learn(message, values, exi.encode))
    if bits is None or bits.put(values) != raw:  # there may be other ways to say the same
        return
    runs = sum(
        _ends(value)[2] << shift for value, (shift, _) in zip(values, bits.runs, strict=True)
    )
    fixed = (1 << 8 * len(raw)) - 1 ^ runs
    form = _Form(bits, fixed, *_cast(message, values), tuple(_parts(message, values)))
    if form.read(raw) != message:
        return
    alike = _forms.pop(len(raw), [])
    keep(_forms, LENGTHS, len(raw), [form, *alike[: ALIKE - 1]])


_uris: Known[tuple[str, ...]] = Known()


def references(info: Message) -> dict[str, Any]:
    """As `evcc.signature.referenced`: which elements a SignedInfo names is said by its shape."""
    if not isinstance(info, Shaped):
        return signature.referenced(info)
    uris = _uris.found(info.shape) or _uris.get(info.shape, lambda: _learn_uris(info))
    return dict(zip(uris, info.said, strict=True)) if uris else signature.referenced(info)


def _learn_uris(info: Shaped) -> tuple[str, ...] | None:
    try:
        found = signature.referenced(info)
    except signature.SignatureError:
        return None
    return tuple(found) if list(found.values()) == list(info.said) else None
