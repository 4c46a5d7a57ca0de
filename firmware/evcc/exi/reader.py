"""EXI document to dict.

The walk keeps its position as a bit number in a local variable; binaries and strings move as one
integer shifted once. Lengths are compared with the bits that remain before anything is copied.
Reading may run a few octets into zero padding, which is detected at the end; running further is an
IndexError.
"""

from evcc.exi import grammar as g
from evcc.exi.errors import ExiError, Fault
from evcc.exi.grammar import (
    ABSTRACT,
    BASE64,
    COMPLEX,
    HEX,
    IN_ELEMENT,
    IS_TEXT,
    KIND,
    STOP,
    STRING,
)
from evcc.pause import pause

_PAD = b"\0\0\0\0"
_MOST_OCTETS = 256  # of one integer: far above any serial number, and a bound of the work


def decode(data, schema: str = "iso2") -> dict:
    """Decode one document: `{root name: content}`.

    `data`: bytes or memoryview. Zero bytes after the end are ignored, others refused. An empty
    value is accepted in both legal forms: no characters, or the element's end at once.
    Raises ExiError.
    """
    grammar = g.load(schema)
    octets = (data if isinstance(data, bytes) else bytes(data)) + _PAD
    end = 8 * (len(octets) - len(_PAD))
    try:
        if end and octets[0] != 0x80:
            raise Fault("header", "first octet is not 0x80")
        name, value, p = _document(grammar, octets, end)
        if p > end:
            raise IndexError
        if octets[p >> 3] & 0xFF >> (p & 7) or any(octets[(p + 7) >> 3 :]):
            raise Fault("trailing", "octets after the end of the document")
    except Fault as fault:
        raise fault.error() from None
    except IndexError:
        raise ExiError("truncated", "ends inside the document") from None
    return {name: value}


def _document(grammar, d: bytes, end: int) -> tuple:
    roots = grammar.roots()
    code, p = _code(d, 8, g.bits(len(roots)))
    if code >= len(roots):
        raise Fault("event", "no root element of the schema")
    flags, place = grammar.element(roots[code])
    if flags & ABSTRACT:
        raise Fault("event", "abstract root element")
    name = grammar.name(roots[code])
    kind, datatype = grammar.type(flags, place)
    try:
        if kind == COMPLEX:
            value, p = _content(grammar, datatype, d, end, p)
        else:
            value, p = _simple(grammar, kind, datatype, d, end, p)
    except Fault as fault:
        fault.under(name)
        raise
    return name, value, p


def _content(grammar, state: list, d: bytes, end: int, p: int) -> tuple:
    """Content of a complex element from its start state on: (dict, position after it).

    The elements around the current one wait in `outer`, as a call for each would overflow the
    stack of a small board.
    """
    outer: list = []  # (members so far, name, state after it, maximum, state when full)
    out: dict = {}
    name = ""
    try:
        while True:
            name = ""
            shift, mask, events, _ = state
            if events is None:
                shift, mask, events, _ = grammar.fill(state)
            i = p >> 3
            code = (d[i] << 8 | d[i + 1]) >> shift - (p & 7) & mask
            p += 16 - shift
            if code < len(events):
                event = events[code]
                if type(event) is int:
                    event = grammar.event(events, code)
                kind, name, datatype, state, most, full = event
                if kind & IN_ELEMENT:
                    value, p = _simple(grammar, kind & KIND, datatype, d, end, p)
                elif kind == COMPLEX:
                    pause()
                    outer.append((out, name, state, most, full))
                    out, state = {}, datatype
                    continue
                elif kind != STOP:
                    value, p = _READ[kind & KIND](grammar, datatype, d, end, p)
            else:
                kind = STOP
                name, value, p = _undeclared(grammar, events, code, d, p)
                out[name] = value
            if kind == STOP:
                if not outer:
                    return out, p
                value = out
                out, name, state, most, full = outer.pop()
            if not most:
                out[name] = value
            elif _append(out, name, value, most, full):
                state = full
    except Fault as fault:
        fault.under(name)
        while outer:
            fault.under(outer.pop()[1])
        raise


def _append(out: dict, name: str, value, most: int, full) -> bool:
    """Add an item to a list member; true when the list is full and has a state for that."""
    items = out.get(name)
    if items is None:
        items = out[name] = []
    if len(items) == most:
        raise Fault("bounds", "more than %d items" % most)
    items.append(value)
    return full is not None and len(items) == most


def _undeclared(grammar, events: list, code: int, d: bytes, p: int) -> tuple:
    """The escape to undeclared events. Before simple content EE is accepted: the empty value."""
    if code > len(events):
        raise Fault("event", "code %d of %d" % (code, len(events)))
    last = events[-1]
    if type(last) is int:
        last = grammar.event(events, len(events) - 1)
    if not last[0] & IS_TEXT:
        raise Fault("unsupported", "undeclared event")
    value, p = _empty(last[0] & KIND, d, p)
    return last[1], value, p


def _simple(grammar, kind: int, datatype, d: bytes, end: int, p: int) -> tuple:
    """An element of a simple type: a bit for CH, the value, a bit for EE."""
    if d[p >> 3] & 0x80 >> (p & 7):
        return _empty(kind, d, p + 1)
    value, p = _READ[kind](grammar, datatype, d, end, p + 1)
    if d[p >> 3] & 0x80 >> (p & 7):
        raise Fault("unsupported", "undeclared event after the value")
    return value, p + 1


def _empty(kind: int, d: bytes, p: int) -> tuple:
    """After the escape in a first state before a value: of seven events only EE is accepted."""
    code, p = _code(d, p, 3)
    if code:
        raise Fault("unsupported" if code < 7 else "event", "undeclared event")
    if kind == STRING:
        return "", p
    if kind in (BASE64, HEX):
        return b"", p
    raise Fault("value", "empty")


# Values: (grammar, type, octets, end, position) to (value, position after it).


def _octets(d: bytes, end: int, p: int, less: int) -> tuple:
    """A length, minus `less`, and that many octets: (octets, position of the first)."""
    i = p >> 3
    k = p & 7
    size = (d[i] << 8 | d[i + 1]) >> 8 - k & 0xFF
    if size > 0x7F:
        size, p = _unsigned(d, p, 5)
        i = p >> 3
    else:
        i += 1
        p += 8
    size -= less
    if size < 0:
        raise Fault("truncated" if p > end else "value", "reference to an earlier value")
    if p + 8 * size > end:
        raise Fault("length", "%d octets or more, %d remain" % (size, end - p >> 3))
    if not k:
        return d[i : i + size], p
    shifted = int.from_bytes(d[i : i + size + 1], "big") >> 8 - k
    return shifted.to_bytes(size + 1, "big")[1:], p


def _binary(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    value, p = _octets(d, end, p, 0)
    return value, p + 8 * len(value)


def _string(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    raw, p = _octets(d, end, p, 2)  # lengths 0 and 1 stand for references
    try:
        text = str(raw, "utf-8")
        if len(text) == len(raw):  # then every octet is one ASCII character, as in EXI
            return text, p + 8 * len(raw)
    except UnicodeError:
        pass
    return _characters(d, p, len(raw))


def _enum(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    first, count, width = datatype
    code, p = _code(d, p, width)
    if code >= count:
        raise Fault("value", "no such value: number %d of %d" % (code, count))
    return grammar.name(first + code), p


def _bits(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    low, span, width = datatype
    code, p = _code(d, p, width)
    if code > span:
        raise Fault("value", "out of range")
    return low + code, p


def _boolean(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    return d[p >> 3] & 0x80 >> (p & 7) != 0, p + 1


def _natural(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    number, p = _unsigned(d, p, _MOST_OCTETS)
    return _within(number, datatype), p


def _integer(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    negative = d[p >> 3] & 0x80 >> (p & 7)
    number, p = _unsigned(d, p + 1, _MOST_OCTETS)
    return _within(-number - 1 if negative else number, datatype), p


def _within(number: int, datatype: tuple) -> int:
    low, high = datatype
    if (low is not None and number < low) or (high is not None and number > high):
        raise Fault("value", "out of range")
    return number


def _refused(grammar, datatype, d: bytes, end: int, p: int) -> tuple:
    raise Fault("unsupported", "wildcard, mixed text or abstract element")


_READ = (
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
    raise Fault("value", "integer of more than %d octets" % most)


def _characters(d: bytes, p: int, size: int) -> tuple:
    """A string with characters beyond ASCII: code points as unsigned integers (7.1.10)."""
    characters = []
    for _ in range(size):
        point, p = _unsigned(d, p, 3)
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise Fault("value", "no character")
        characters.append(chr(point))
    return "".join(characters), p
