"""EXI document to dict.

The walk keeps its position as a bit number in a local variable; binaries and strings move as one
integer shifted once. Lengths are compared with the bits that remain before anything is copied.
Reading may run a few octets into zero padding; what it read there is refused at the end.
"""

from evcc.exi import grammar as g
from evcc.exi.errors import ExiError

_PAD = b"\0\0\0\0"
_MOST_OCTETS = 256  # of one integer: far above any serial number, and no work for long nonsense


class _Fault(Exception):
    """An error on its way up, gathering the path of the member."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__()
        self.reason = reason
        self.text = text
        self.path = ""


def decode(data, schema: str = "iso2") -> dict:
    """Decode one document: `{root name: content}`.

    `data`: bytes or memoryview. Zero bytes after the end are ignored, others refused. An empty
    value is accepted in both legal forms: no characters, or the element's end at once.
    Raises ExiError.
    """
    grammar = g.load(schema)
    end = len(data) * 8
    octets = bytes(data) + _PAD
    try:
        if end and octets[0] != 0x80:
            raise _Fault("header", "first octet is not 0x80")
        roots = grammar.roots()
        code, p = _code(octets, 8, g.bits(len(roots)))
        if end < 16:
            raise IndexError
        if code >= len(roots):
            raise _Fault("event", "no root element of the schema")
        flags, place = grammar.element(roots[code])
        if flags & g.ABSTRACT:
            raise _Fault("event", "abstract root element")
        name = grammar.name(roots[code])
        try:
            if flags & g.OP == g.ELEMENT:
                value, p = _content(grammar, octets, end, p, grammar.state(place))
            else:
                value, p = _simple(grammar, octets, end, p, place)
        except _Fault as fault:
            fault.path = name + "/" + fault.path if fault.path else name
            raise
        if p > end:
            raise IndexError
        if octets[p >> 3] & 0xFF >> (p & 7) or any(octets[(p + 7) >> 3 :]):
            raise _Fault("trailing", "octets after the end of the document")
    except _Fault as fault:
        detail = fault.path + ": " + fault.text if fault.path else fault.text
        raise ExiError(fault.reason, detail) from None
    except IndexError:
        raise ExiError("truncated", "ends inside the document") from None
    except MemoryError:
        raise ExiError("memory", "message too large for the memory there is") from None
    return {name: value}


def _content(grammar, d: bytes, end: int, p: int, state: list) -> tuple:
    """Content of a complex element from its start state on: (dict, position after it)."""
    out: dict = {}
    name = ""
    try:
        while True:
            shift, mask, events = state
            if events is None:
                shift, mask, events = grammar.fill(state)
            i = p >> 3
            code = (d[i] << 8 | d[i + 1]) >> shift - (p & 7) & mask
            p += 16 - shift
            if code < len(events):
                event = events[code]
                if type(event) is int:
                    event = grammar.event(events, code)
                kind, name, what, state, op, most, full = event
                if kind == g.COMPLEX:
                    value, p = _content(grammar, d, end, p, what)
                elif kind == g.STOP:
                    return out, p
                elif op == g.SIMPLE:
                    if d[p >> 3] & 0x80 >> (p & 7):
                        value, p = _empty(kind, d, p + 1)
                    else:
                        value, p = _value(grammar, kind, what, d, end, p + 1)
                        if d[p >> 3] & 0x80 >> (p & 7):
                            raise _Fault("unsupported", "undeclared event after the value")
                        p += 1
                else:
                    value, p = _value(grammar, kind, what, d, end, p)
            else:
                # The way to undeclared events. Before simple content, the first is EE.
                name, last = "", events[-1]
                if type(last) is int:
                    last = grammar.event(events, len(events) - 1)
                kind, name, what, state, op, most, full = last
                if code > len(events):
                    raise _Fault("event", "code %d of %d" % (code, len(events)))
                if op != g.TEXT:
                    raise _Fault("unsupported", "undeclared event")
                out[name], p = _empty(kind, d, p)
                return out, p
            if not most:
                out[name] = value
            else:
                items = out.get(name)
                if items is None:
                    items = out[name] = []
                elif full is None and len(items) == most:
                    raise _Fault("bounds", "more than %d items" % most)
                items.append(value)
                if full is not None and len(items) == most:
                    state = full
    except _Fault as fault:
        fault.path = name + "/" + fault.path if fault.path else name
        raise


def _simple(grammar, d: bytes, end: int, p: int, place: int) -> tuple:
    """A whole element of a simple type, as the root of a document."""
    kind, what = grammar.type(g.SIMPLE, place)
    if d[p >> 3] & 0x80 >> (p & 7):
        return _empty(kind, d, p + 1)
    value, p = _value(grammar, kind, what, d, end, p + 1)
    if d[p >> 3] & 0x80 >> (p & 7):
        raise _Fault("unsupported", "undeclared event after the value")
    return value, p + 1


def _empty(kind: int, d: bytes, p: int) -> tuple:
    """After the escape in a first state before a value: of its seven events only EE is taken."""
    code, p = _code(d, p, 3)
    if code:
        raise _Fault("unsupported" if code < 7 else "event", "undeclared event")
    if kind == g.STRING:
        return "", p
    if kind in (g.BASE64, g.HEX):
        return b"", p
    raise _Fault("value", "empty")


def _value(grammar, kind: int, what, d: bytes, end: int, p: int) -> tuple:
    if kind <= g.HEX:
        i = p >> 3
        k = p & 7
        size = (d[i] << 8 | d[i + 1]) >> 8 - k & 0xFF
        p += 8
        if size > 0x7F:
            size, p = _unsigned(d, p - 8, 5)
        if kind == g.STRING:
            size -= 2
            if size < 0:
                raise _Fault("value", "reference to an earlier value")
        if p + 8 * size > end:
            raise _Fault("length", "%d octets or more, %d remain" % (size, end - p >> 3))
        i = p >> 3
        if k:
            raw = int.from_bytes(d[i : i + size + 1], "big") >> 8 - k
            raw = raw.to_bytes(size + 1, "big")[1:]
        else:
            raw = d[i : i + size]
        if kind != g.STRING:
            return raw, p + 8 * size
        try:
            text = str(raw, "utf-8")
            if len(text) == size:  # then every octet is one ASCII character, as in EXI
                return text, p + 8 * size
        except UnicodeError:
            pass
        return _characters(d, p, size, end)
    if kind == g.ENUM:
        code, p = _code(d, p, what[2])
        if code >= what[1]:
            raise _Fault("value", "no such value: number %d of %d" % (code, what[1]))
        return grammar.name(what[0] + code), p
    if kind == g.BITS:
        code, p = _code(d, p, what[2])
        if code > what[1]:
            raise _Fault("value", "out of range")
        return what[0] + code, p
    if kind == g.BOOLEAN:
        code, p = _code(d, p, 1)
        return code == 1, p
    if kind == g.REFUSED:
        raise _Fault("unsupported", "wildcard, mixed text or abstract element")
    negative = 0
    if kind == g.INTEGER:
        negative, p = _code(d, p, 1)
    number, p = _unsigned(d, p, _MOST_OCTETS)
    if negative:
        number = -number - 1
    low, high = what
    if (low is not None and number < low) or (high is not None and number > high):
        raise _Fault("value", "out of range")
    return number, p


def _code(d: bytes, p: int, width: int) -> tuple:
    """An n-bit unsigned integer of up to 16 bits (7.1.9)."""
    i = p >> 3
    window = d[i] << 16 | d[i + 1] << 8 | d[i + 2]
    return window >> 24 - width - (p & 7) & (1 << width) - 1, p + width


def _unsigned(d: bytes, p: int, most: int) -> tuple:
    """An unsigned integer (7.1.6) of up to `most` octets, seven bits each, lowest first."""
    i = p >> 3
    k = 8 - (p & 7)
    number = shift = 0
    while shift < 7 * most:
        octet = (d[i] << 8 | d[i + 1]) >> k
        number |= (octet & 0x7F) << shift
        shift += 7
        i += 1
        if not octet & 0x80:
            return number, p + shift // 7 * 8
    raise _Fault("value", "integer of more than %d octets" % most)


def _characters(d: bytes, p: int, size: int, end: int) -> tuple:
    """A string with characters beyond ASCII: code points as unsigned integers (7.1.10)."""
    found = []
    for _ in range(size):
        point, p = _unsigned(d, p, 3)
        if p > end:
            raise IndexError
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise _Fault("value", "no character")
        found.append(chr(point))
    return "".join(found), p
