"""Dict to EXI document, and to the EXI fragment of one element, which signatures are over.

Bits gather in one integer; a binary or a string is added to it at once, and then all complete
octets move to the output. No member is dropped: one without a place in the grammar is an error.
"""

from evcc.exi import grammar as g
from evcc.exi.errors import ExiError, Fault
from evcc.exi.grammar import (
    ABSTRACT,
    COMPLEX,
    ELEMENT,
    IN_ELEMENT,
    KIND,
    OPTIONAL,
    RELAXED,
    SIMPLE,
    STOP,
    STRING,
    TEXT,
)
from evcc.pause import pause


def encode(message: dict, schema: str = "iso2") -> bytes:
    """Encode `{root name: content}` as a document, header included. Raises ExiError with the path
    of the member."""
    grammar = g.load(schema)
    if not isinstance(message, dict) or len(message) != 1:
        raise ExiError("type", "a message is a dict of one root element")
    name = next(iter(message))
    roots = grammar.roots()
    index = grammar.find(name, 0, grammar.count()) if isinstance(name, str) else -1
    while index >= 0 and index not in roots:  # a local element may share the name
        index = grammar.find(name, index + 1, grammar.count() - index - 1)
    if index < 0:
        raise ExiError("unknown", "root element %s" % (name,))
    flags, place = grammar.element(index)
    if flags & ABSTRACT:
        raise ExiError("unsupported", name + ": abstract element")
    width = g.bits(len(roots))
    octets = bytearray()
    bits = _Bits(octets.extend, 0x80 << width | roots.index(index), 8 + width)
    _root(bits, grammar, index, flags, place, message[name])
    bits.end()
    return bytes(octets)


def fragment(name, value, schema: str = "iso2", typed: bool = False, write=None) -> bytes:
    """The EXI fragment of one element, as XML signatures digest it (EXI 8.4.2).

    `name`: the element's local name (or its index in the schema's tables, where several
    namespaces share the name). A name declared with several types (iso2: `eMAID`) is coded with
    the relaxed grammar of 8.5.3; `typed=True` codes it by its own type instead, as libcbv2g does.
    `write`: called with the octets, piece by piece; b"" is returned then. Raises ExiError.
    """
    pause()
    grammar = g.load(schema)
    count = grammar.count()
    index = grammar.only(name) if isinstance(name, str) else name
    width = g.bits(count + 1)
    flags, place = grammar.element(index)
    octets = bytearray()
    bits = _Bits(write or octets.extend, 0x80 << width | index, 8 + width)
    if flags & RELAXED:
        simple = not isinstance(value, dict)
        place = grammar.u16(place + 2 * simple)
        flags = (SIMPLE if simple else ELEMENT) | (0 if typed else RELAXED)
    _root(bits, grammar, index, flags, place, value)
    bits.put(count + 1, width)
    bits.end()
    return bytes(octets)


class _Bits:
    """Output: complete octets go to `write`; `count` bits are in `pending`."""

    def __init__(self, write, pending: int, count: int) -> None:
        self.write = write
        self.pending = pending
        self.count = count

    def put(self, value: int, width: int) -> None:
        self.pending = self.pending << width | value
        self.count += width

    def end(self) -> None:
        pad = -self.count % 8
        self.write((self.pending << pad).to_bytes((self.count + pad) // 8, "big"))


def _root(bits: _Bits, grammar, index: int, flags: int, place: int, value) -> None:
    try:
        if flags & RELAXED:
            _relaxed(bits, grammar, place, value)
            return
        kind, datatype = grammar.type(flags, place)
        if kind == COMPLEX:
            _content(bits, grammar, datatype, value)
        else:
            bits.put(0, 1)
            _WRITE[kind](bits, grammar, datatype, value)
            bits.put(0, 1)
    except Fault as fault:
        fault.under(grammar.name(index))
        raise fault.error() from None


def _content(bits: _Bits, grammar, state: list, value) -> None:
    """Content of a complex element. Takes the first event of a state whose member is present: in a
    choice the schema's order counts, not the dict's. As in the reader, the elements around the
    current one wait in `outer`."""
    outer: list = []  # (value, members that remain, name of the inner element, state after it)
    name = ""
    try:
        remaining = _members(value)
        while True:
            name = ""
            shift, _, events, _ = state
            if events is None:
                shift, _, events, _ = grammar.fill(state)
            code, event = _choose(grammar, events, remaining)
            kind, name, datatype, state, most, full = event
            if kind == STOP:
                if remaining:
                    name = str(next(iter(remaining)))
                    _surplus(remaining)
                bits.put(code, 16 - shift)
                if not outer:
                    return
                value, remaining, _, state = outer.pop()
                continue
            if not most:
                item = remaining.pop(name)
            else:
                item, last = _item(value, remaining, name, most)
                if last and full is not None:
                    state = full
            if kind & IN_ELEMENT:
                bits.pending = (bits.pending << 16 - shift | code) << 1
                bits.count += 17 - shift
                _WRITE[kind & KIND](bits, grammar, datatype, item)
                bits.pending <<= 1
                bits.count += 1
                continue
            bits.pending = bits.pending << 16 - shift | code
            bits.count += 16 - shift
            if kind == COMPLEX:
                pause()
                outer.append((value, remaining, name, state))
                name, value, state = "", item, datatype
                remaining = _members(value)
            else:
                _WRITE[kind & KIND](bits, grammar, datatype, item)
    except Fault as fault:
        fault.under(name)
        while outer:
            fault.under(outer.pop()[2])
        raise


def _members(value) -> dict:
    """The members of an element that are still to be written."""
    if not isinstance(value, dict):
        raise Fault("type", "not an object")
    return dict(value)


def _choose(grammar, events: list, remaining: dict) -> tuple:
    """The first possible event, and its code."""
    for code, place in enumerate(events):
        event = grammar.event(events, code) if type(place) is int else place
        name = event[1]
        if name in remaining:
            if not event[4] or remaining[name]:
                return code, event
            if not isinstance(remaining[name], list):
                raise _at(name, "type", "not a list")
            del remaining[name]  # an empty list counts as absent
        if event[0] == STOP:
            return code, event
    names = [event[1] for event in events if event[1]]
    raise _at(" or ".join(names), "missing", "required" if names else "content of a wildcard")


def _at(name: str, reason: str, text: str) -> Fault:
    fault = Fault(reason, text)
    fault.under(name)
    return fault


def _item(value: dict, remaining: dict, name: str, most: int) -> tuple:
    """Take the next item of a list member: (item, whether the list then has its maximum)."""
    items = remaining[name]
    if items is value[name]:
        if not isinstance(items, list):
            raise Fault("type", "not a list")
        items = remaining[name] = list(items)
        items.reverse()
    item = items.pop()
    number = len(value[name]) - len(items)
    if not items:
        del remaining[name]
    if number > most:
        raise Fault("bounds", "more than %d items" % most)
    return item, number == most


def _surplus(remaining: dict) -> None:
    for item in remaining.values():
        if isinstance(item, list):
            raise Fault("bounds", "more items than the schema allows")
        raise Fault("unknown", "no such member here")


def _relaxed(bits: _Bits, grammar, place: int, value) -> None:
    """An element name with several types (8.5.3): attributes, then the value as characters.

    That grammar allows child elements too, but no such element has any.
    """
    # First state: attributes, AT(*), elements, SE(*), EE, CH; second: the same from elements on.
    attributes, elements = grammar.tables.ATTRIBUTES, grammar.count()
    first = attributes + elements + 4
    remaining = dict(value) if isinstance(value, dict) else {"value": value}
    members = grammar.members(place) if isinstance(value, dict) else [(-1, TEXT, place)]
    for index, op, type_at in members:
        name = "value" if index < 0 else grammar.name(index)
        if name not in remaining:
            if op & OPTIONAL:
                continue
            raise _at(name, "missing", "required")
        kind, datatype = grammar.type(op, type_at)
        if kind != STRING:
            raise _at(name, "unsupported", "no string, in the relaxed grammar")
        bits.put(first - 1 if index < 0 else index - elements, g.bits(first))
        _string(bits, grammar, datatype, remaining.pop(name))
    for name in remaining:
        raise _at(str(name), "unknown", "no such member here")
    bits.put(elements + 1, g.bits(elements + 3))


# Values: (output, grammar, type, value).


def _add(bits: _Bits, octets) -> None:
    """Add octets, and move all complete ones to the output."""
    size = len(octets)
    if size:
        pending = bits.pending << 8 * size | int.from_bytes(octets, "big")
        count = bits.count + 8 * size
        odd = count & 7
        bits.write((pending >> odd).to_bytes(count >> 3, "big"))
        bits.pending = octets[-1] & (1 << odd) - 1
        bits.count = odd


def _binary(bits: _Bits, grammar, datatype, value) -> None:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Fault("type", "not bytes")
    _unsigned(bits, len(value))
    _add(bits, value)


def _string(bits: _Bits, grammar, datatype, value) -> None:
    if not isinstance(value, str):
        raise Fault("type", "not a string")
    size = len(value)
    _unsigned(bits, size + 2)  # lengths 0 and 1 stand for references
    try:
        octets = value.encode()
    except UnicodeError:
        raise Fault("value", "half of a surrogate pair") from None
    if len(octets) == size:
        _add(bits, octets)
        return
    for character in value:  # code points as unsigned integers (7.1.10)
        if 0xD800 <= ord(character) < 0xE000:
            raise Fault("value", "half of a surrogate pair")
        _unsigned(bits, ord(character))


def _enum(bits: _Bits, grammar, datatype, value) -> None:
    first, count, width = datatype
    if not isinstance(value, str):
        raise Fault("type", "not a string")
    number = grammar.find(value, first, count)
    if number < 0:
        raise Fault("value", "not one of the schema's values: " + value)
    bits.put(number - first, width)


def _bits(bits: _Bits, grammar, datatype, value) -> None:
    low, span, width = datatype
    _check(value, low, low + span)
    bits.put(value - low, width)


def _boolean(bits: _Bits, grammar, datatype, value) -> None:
    if value is not True and value is not False:
        raise Fault("type", "not a boolean")
    bits.put(1 if value else 0, 1)


def _natural(bits: _Bits, grammar, datatype, value) -> None:
    _check(value, datatype[0], datatype[1])
    _unsigned(bits, value)


def _integer(bits: _Bits, grammar, datatype, value) -> None:
    _check(value, datatype[0], datatype[1])
    bits.put(1 if value < 0 else 0, 1)
    _unsigned(bits, -value - 1 if value < 0 else value)


def _check(value, low, high) -> None:
    if value is True or value is False or not isinstance(value, int):
        raise Fault("type", "not an integer")
    if (low is not None and value < low) or (high is not None and value > high):
        raise Fault("value", "out of range")


def _refused(bits: _Bits, grammar, datatype, value) -> None:
    raise Fault("unsupported", "wildcard or abstract element")


_WRITE = (
    _refused,  # COMPLEX, which the walker handles itself
    _string,
    _binary,
    _binary,
    _enum,
    _bits,
    _boolean,
    _natural,
    _integer,
    _refused,  # STOP, likewise
    _refused,
)


def _unsigned(bits: _Bits, number: int) -> None:
    """An unsigned integer (7.1.6): seven bits an octet, lowest first."""
    pending, count = bits.pending, bits.count
    while number > 0x7F:
        pending = pending << 8 | 0x80 | number & 0x7F
        count += 8
        number >>= 7
    bits.pending = pending << 8 | number
    bits.count = count + 8
