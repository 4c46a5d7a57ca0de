"""Dict to EXI document, and to the EXI fragment of one element, which is what gets signed.

Bits gather in one integer; a binary or a string is added to it whole, and then all complete
octets move to the output. Nothing is dropped: a member the grammar has no place for is an error.
"""

from evcc.exi import grammar as g
from evcc.exi.errors import ExiError, Fault


def encode(message: dict, schema: str = "iso2") -> bytes:
    """Encode `{root name: content}` as a document. Raises ExiError, naming the member's path."""
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
    if flags & g.ABSTRACT:
        raise ExiError("unsupported", name + ": abstract element")
    width = g.bits(len(roots))
    bits = _Bits(0x80 << width | roots.index(index), 8 + width)
    _root(bits, grammar, index, flags, place, message[name])
    return bits.end()


def fragment(name, value, schema: str = "iso2", typed: bool = False) -> bytes:
    """The EXI fragment of one element, as XML signatures digest it (EXI 8.4.2).

    `name`: the element's local name (or its index in the schema's tables, where several
    namespaces share the name). A name declared with several types (iso2: `eMAID`) is coded with
    the relaxed grammar of 8.5.3; `typed=True` codes it by its own type instead, the way libcbv2g
    does. Raises ExiError.
    """
    grammar = g.load(schema)
    count = grammar.count()
    index = grammar.only(name) if isinstance(name, str) else name
    width = g.bits(count + 1)
    flags, place = grammar.element(index)
    bits = _Bits(0x80 << width | index, 8 + width)
    if flags & g.RELAXED:
        simple = not isinstance(value, dict)
        place = grammar.u16(place + 2 * simple)
        flags = (g.SIMPLE if simple else g.ELEMENT) | (0 if typed else g.RELAXED)
    _root(bits, grammar, index, flags, place, value)
    bits.put(count + 1, width)
    return bits.end()


class _Bits:
    """Output: complete octets in `octets`, then `count` bits in `held`."""

    def __init__(self, held: int, count: int) -> None:
        self.octets = bytearray()
        self.held = held
        self.count = count

    def put(self, value: int, width: int) -> None:
        self.held = self.held << width | value
        self.count += width

    def end(self) -> bytes:
        pad = -self.count % 8
        return bytes(self.octets) + (self.held << pad).to_bytes((self.count + pad) // 8, "big")


def _root(bits: _Bits, grammar, index: int, flags: int, place: int, value) -> None:
    try:
        if flags & g.RELAXED:
            _relaxed(bits, grammar, place, value)
            return
        kind, what = grammar.type(flags, place)
        if kind == g.COMPLEX:
            _content(bits, grammar, what, value)
        else:
            bits.put(0, 1)
            _WRITE[kind](bits, grammar, what, value)
            bits.put(0, 1)
    except Fault as fault:
        fault.under(grammar.name(index))
        raise fault.error() from None


def _content(bits: _Bits, grammar, state: list, value) -> None:
    """Content of a complex element. Of the events a state offers, the first whose member is there
    is taken: in a choice that is schema order, not the order of the dict."""
    name = ""
    try:
        if not isinstance(value, dict):
            raise Fault("type", "not an object")
        rest = dict(value)
        while True:
            name = ""
            shift, _, events, _ = state
            if events is None:
                shift, _, events, _ = grammar.fill(state)
            code, event = _choose(grammar, events, rest)
            kind, name, what, state, op, most, full = event
            if kind == g.STOP:
                if rest:
                    name = str(next(iter(rest)))
                    _surplus(rest)
                bits.put(code, 16 - shift)
                return
            if not most:
                item = rest.pop(name)
            else:
                item, last = _item(value, rest, name, most)
                if last and full is not None:
                    state = full
            if op == g.SIMPLE:
                bits.held = (bits.held << 16 - shift | code) << 1
                bits.count += 17 - shift
                _WRITE[kind](bits, grammar, what, item)
                bits.held <<= 1
                bits.count += 1
            else:
                bits.held = bits.held << 16 - shift | code
                bits.count += 16 - shift
                _WRITE[kind](bits, grammar, what, item)
    except Fault as fault:
        fault.under(name)
        raise


def _choose(grammar, events: list, rest: dict) -> tuple:
    """The first event that can be taken, and its code."""
    for code, place in enumerate(events):
        event = grammar.event(events, code) if type(place) is int else place
        name = event[1]
        if name in rest:
            if not event[5] or rest[name]:
                return code, event
            if not isinstance(rest[name], list):
                raise _at(name, "type", "not a list")
            del rest[name]  # an empty list is an absent one
        if event[0] == g.STOP:
            return code, event
    names = [event[1] for event in events if event[1]]
    raise _at(" or ".join(names), "missing", "required" if names else "content of a wildcard")


def _at(name: str, reason: str, text: str) -> Fault:
    fault = Fault(reason, text)
    fault.under(name)
    return fault


def _item(value: dict, rest: dict, name: str, most: int) -> tuple:
    """Take the next item of a list member: (item, whether it is the last the list may have)."""
    items = rest[name]
    if items is value[name]:
        if not isinstance(items, list):
            raise Fault("type", "not a list")
        items = rest[name] = list(items)
        items.reverse()
    item = items.pop()
    done = len(value[name]) - len(items)
    if not items:
        del rest[name]
    if done > most:
        raise Fault("bounds", "more than %d items" % most)
    return item, done == most


def _surplus(rest: dict) -> None:
    for item in rest.values():
        if isinstance(item, list):
            raise Fault("bounds", "more items than the schema allows")
        raise Fault("unknown", "no such member here")


def _relaxed(bits: _Bits, grammar, place: int, value) -> None:
    """An element whose name has several types (8.5.3): attributes, then the value as characters.

    Child elements have a place in that grammar too, but no such element has any.
    """
    # First state: attributes, AT(*), elements, SE(*), EE, CH; second: the same from elements on.
    attributes, elements = grammar.tables.ATTRIBUTES, grammar.count()
    first = attributes + elements + 4
    rest = dict(value) if isinstance(value, dict) else {"value": value}
    members = grammar.members(place) if isinstance(value, dict) else [(-1, g.TEXT, place)]
    for index, op, type_at in members:
        name = "value" if index < 0 else grammar.name(index)
        if name not in rest:
            if op & g.OPTIONAL:
                continue
            raise _at(name, "missing", "required")
        kind, what = grammar.type(op, type_at)
        if kind != g.STRING:
            raise _at(name, "unsupported", "no string, in the relaxed grammar")
        bits.put(first - 1 if index < 0 else index - elements, g.bits(first))
        _string(bits, grammar, what, rest.pop(name))
    for name in rest:
        raise _at(str(name), "unknown", "no such member here")
    bits.put(elements + 1, g.bits(elements + 3))


# Values: (output, grammar, type, value).


def _add(bits: _Bits, octets) -> None:
    """Whole octets; all complete ones then leave the integer."""
    size = len(octets)
    if size:
        held = bits.held << 8 * size | int.from_bytes(octets, "big")
        count = bits.count + 8 * size
        odd = count & 7
        bits.octets += (held >> odd).to_bytes(count >> 3, "big")
        bits.held = octets[-1] & (1 << odd) - 1
        bits.count = odd


def _binary(bits: _Bits, grammar, what, value) -> None:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Fault("type", "not bytes")
    _unsigned(bits, len(value))
    _add(bits, value)


def _string(bits: _Bits, grammar, what, value) -> None:
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


def _enum(bits: _Bits, grammar, what, value) -> None:
    first, count, width = what
    if not isinstance(value, str):
        raise Fault("type", "not a string")
    number = grammar.find(value, first, count)
    if number < 0:
        raise Fault("value", "not one of the schema's values: " + value)
    bits.put(number - first, width)


def _bits(bits: _Bits, grammar, what, value) -> None:
    low, span, width = what
    _check(value, low, low + span)
    bits.put(value - low, width)


def _boolean(bits: _Bits, grammar, what, value) -> None:
    if value is not True and value is not False:
        raise Fault("type", "not a boolean")
    bits.put(1 if value else 0, 1)


def _natural(bits: _Bits, grammar, what, value) -> None:
    _check(value, what[0], what[1])
    _unsigned(bits, value)


def _integer(bits: _Bits, grammar, what, value) -> None:
    _check(value, what[0], what[1])
    bits.put(1 if value < 0 else 0, 1)
    _unsigned(bits, -value - 1 if value < 0 else value)


def _check(value, low, high) -> None:
    if value is True or value is False or not isinstance(value, int):
        raise Fault("type", "not an integer")
    if (low is not None and value < low) or (high is not None and value > high):
        raise Fault("value", "out of range")


def _refused(bits: _Bits, grammar, what, value) -> None:
    raise Fault("unsupported", "wildcard or abstract element")


_WRITE = (
    _content,
    _string,
    _binary,
    _binary,
    _enum,
    _bits,
    _boolean,
    _natural,
    _integer,
    _refused,  # STOP, which the walk sees first
    _refused,
)


def _unsigned(bits: _Bits, number: int) -> None:
    """An unsigned integer (7.1.6): seven bits an octet, lowest first."""
    held, count = bits.held, bits.count
    while number > 0x7F:
        held = held << 8 | 0x80 | number & 0x7F
        count += 8
        number >>= 7
    bits.held = held << 8 | number
    bits.count = count + 8
