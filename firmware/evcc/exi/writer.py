"""Dict to EXI document, and to the EXI fragment of one element, which is what gets signed.

Bits gather in one integer; a binary or a string is added to it whole, and then all complete
octets move to the output. Nothing is dropped: a member the grammar has no place for is an error.
"""

from evcc.exi import grammar as g
from evcc.exi.errors import ExiError


def encode(message: dict, schema: str = "iso2") -> bytes:
    """Encode `{root name: content}` as a document. Raises ExiError, naming the member's path."""
    grammar = g.load(schema)
    if not isinstance(message, dict) or len(message) != 1:
        raise ExiError("type", "a message is a dict of one root element")
    for name in message:
        roots = grammar.roots()
        names = [grammar.name(i) for i in roots]
        if name not in names:
            raise ExiError("unknown", "root element %s" % (name,))
        code = names.index(name)
        flags, place = grammar.element(roots[code])
        if flags & g.ABSTRACT:
            raise ExiError("unsupported", name + ": abstract element")
        bits = _Bits(0x80 << g.bits(len(roots)) | code, 8 + g.bits(len(roots)))
        _root(bits, grammar, name, flags, place, message[name])
        return bits.end()
    raise ExiError("type", "empty message")


def fragment(name, value, schema: str = "iso2", typed: bool = False) -> bytes:
    """The EXI fragment of one element, as XML signatures digest it (EXI 8.4.2).

    `name`: the element's local name (or its index in the schema's tables, where several
    namespaces share the name). A name declared with several types (iso2: `eMAID`) is coded with
    the relaxed grammar of 8.5.3; `typed=True` codes it by its own type instead, the way libcbv2g
    does. Raises ExiError.
    """
    grammar = g.load(schema)
    count = grammar.count()
    if isinstance(name, str):
        index = grammar.find(name, 0, count)
        if index < 0:
            raise ExiError("unknown", "element " + name)
        if grammar.find(name, index + 1, count - index - 1) >= 0:
            raise ExiError("unknown", name + ": in several namespaces of the schema")
    else:
        index, name = name, grammar.name(name)
    width = g.bits(count + 1)
    flags, place = grammar.element(index)
    bits = _Bits(0x80 << width | index, 8 + width)
    if not flags & g.RELAXED:
        _root(bits, grammar, name, flags, place, value)
    else:
        simple = not isinstance(value, dict)
        place = grammar.u16(place + 2 * simple)
        if not place:
            raise ExiError("type", name)
        if typed:
            _root(bits, grammar, name, g.SIMPLE if simple else g.ELEMENT, place, value)
        else:
            _relaxed(bits, grammar, place, value)
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


class _Fault(Exception):
    """An error on its way up, gathering the path of the member."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__()
        self.reason = reason
        self.text = text
        self.path = ""


def _root(bits: _Bits, grammar, name: str, flags: int, place: int, value) -> None:
    try:
        if flags & g.OP == g.ELEMENT:
            _content(bits, grammar, grammar.state(place), value)
        else:
            kind, what = grammar.type(g.SIMPLE, place)
            bits.put(0, 1)
            _value(bits, grammar, kind, what, value)
            bits.put(0, 1)
    except _Fault as fault:
        path = name + "/" + fault.path if fault.path else name
        raise ExiError(fault.reason, path + ": " + fault.text) from None


def _content(bits: _Bits, grammar, state: list, value) -> None:
    """Content of a complex element. Of the events a state offers, the first whose member is there
    is taken: in a choice that is schema order, not the order of the dict."""
    name = ""
    try:
        if not isinstance(value, dict):
            raise _Fault("type", "not an object")
        rest = dict(value)
        while True:
            shift, _, events = state
            if events is None:
                shift, _, events = grammar.fill(state)
            code = 0
            for event in events:
                if type(event) is int:
                    event = grammar.event(events, code)
                kind, name, what, after, op, most, full = event
                if name in rest or kind == g.STOP:
                    break
                code += 1
            else:
                _missing(events)
            if kind == g.STOP:
                if rest:
                    name = str(list(rest)[0])
                    _surplus(rest[name])
                bits.put(code, 16 - shift)
                return
            if not most:
                item = rest.pop(name)
            else:
                items = rest[name]
                if items is value[name]:
                    if not isinstance(items, list):
                        raise _Fault("type", "not a list")
                    items = rest[name] = list(items)
                    items.reverse()
                    if not items:
                        del rest[name]
                        continue
                item = items.pop()
                done = len(value[name]) - len(items)
                if not items:
                    del rest[name]
                if done == most and full is not None:
                    after = full
                elif done > most:
                    raise _Fault("bounds", "more than %d items" % most)
            if op == g.SIMPLE:
                bits.held = (bits.held << 16 - shift | code) << 1
                bits.count += 17 - shift
                _value(bits, grammar, kind, what, item)
                bits.held <<= 1
                bits.count += 1
            else:
                bits.held = bits.held << 16 - shift | code
                bits.count += 16 - shift
                if kind == g.COMPLEX:
                    _content(bits, grammar, what, item)
                else:
                    _value(bits, grammar, kind, what, item)
            state = after
    except _Fault as fault:
        fault.path = name + "/" + fault.path if fault.path else name
        raise


def _missing(events: list) -> None:
    names = [e[1] for e in events if e[1]]
    fault = _Fault("missing", "required")
    fault.path = " or ".join(names)
    raise fault


def _surplus(rest) -> None:
    if isinstance(rest, list):
        raise _Fault("bounds", "more items than the schema allows")
    raise _Fault("unknown", "no such member here")


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
            raise _Fault("missing", name)
        kind, what = grammar.type(op, type_at)
        if kind != g.STRING:
            raise _Fault("unsupported", name + " in the relaxed grammar")
        bits.put(first - 1 if index < 0 else index - elements, g.bits(first))
        _value(bits, grammar, kind, what, rest.pop(name))
    if rest:
        raise _Fault("unknown", "no such member here: %s" % (list(rest)[0],))
    bits.put(elements + 1, g.bits(elements + 3))


def _value(bits: _Bits, grammar, kind: int, what, value) -> None:
    if kind <= g.HEX:
        if kind == g.STRING:
            if not isinstance(value, str):
                raise _Fault("type", "not a string")
            try:
                octets = value.encode()
            except UnicodeError:
                raise _Fault("value", "half of a surrogate pair") from None
            size = len(octets)
            if size != len(value):
                return _characters(bits, value)
            _unsigned(bits, size + 2)
        else:
            if not isinstance(value, (bytes, bytearray, memoryview)):
                raise _Fault("type", "not bytes")
            octets = value
            size = len(octets)
            _unsigned(bits, size)
        if size:
            held = bits.held << 8 * size | int.from_bytes(octets, "big")
            count = bits.count + 8 * size
            odd = count & 7
            bits.octets += (held >> odd).to_bytes(count >> 3, "big")
            bits.held = octets[-1] & (1 << odd) - 1
            bits.count = odd
    elif kind == g.ENUM:
        if not isinstance(value, str):
            raise _Fault("type", "not a string")
        number = grammar.find(value, what[0], what[1])
        if number < 0:
            raise _Fault("value", "not one of the schema's values: " + value)
        bits.put(number - what[0], what[2])
    elif kind == g.BOOLEAN:
        if value is not True and value is not False:
            raise _Fault("type", "not a boolean")
        bits.put(1 if value else 0, 1)
    elif kind == g.REFUSED:
        raise _Fault("unsupported", "wildcard or abstract element")
    else:
        if value is True or value is False or not isinstance(value, int):
            raise _Fault("type", "not an integer")
        low, high = what[0], what[1]
        if kind == g.BITS:
            high += low
        if (low is not None and value < low) or (high is not None and value > high):
            raise _Fault("value", "out of range")
        if kind == g.BITS:
            bits.put(value - low, what[2])
            return
        if kind == g.INTEGER:
            bits.put(1 if value < 0 else 0, 1)
            if value < 0:
                value = -value - 1
        _unsigned(bits, value)


def _unsigned(bits: _Bits, number: int) -> None:
    """An unsigned integer (7.1.6): seven bits an octet, lowest first."""
    held, count = bits.held, bits.count
    while number > 0x7F:
        held = held << 8 | 0x80 | number & 0x7F
        count += 8
        number >>= 7
    bits.held = held << 8 | number
    bits.count = count + 8


def _characters(bits: _Bits, text: str) -> None:
    """A string with characters beyond ASCII: code points as unsigned integers (7.1.10)."""
    _unsigned(bits, len(text) + 2)
    for character in text:
        if 0xD800 <= ord(character) < 0xE000:
            raise _Fault("value", "half of a surrogate pair")
        _unsigned(bits, ord(character))
