"""EXI 1.0 section 8.5.4 grammars, unfolded state by state from a schema's compact tables.

A complex type is a program of instructions; a grammar state is a place in it, and its events are
the instructions reached from there without consuming input. States are made at their first visit
and kept. Tables (one module per schema, made by `tools/exi_tables`) hold:

    NAMES       local names, each between zero bytes; octet 128 + n stands for pair n of PAIRS
    OFFSETS     u16 into NAMES per name: elements by (local, URI), attributes likewise, enum values
    ATTRIBUTES  number of attribute names
    ELEMENTS    per element name: flags u8, place of its type u16
    CODE        programs, and rows of simple types

Instruction: opcode in the low three bits, flags above. ELEMENT (complex), SIMPLE (element of a
simple type), ATTRIBUTE and TEXT have name u16, place of the type u16, and with LIST the maximum
u16 (0: no bound); SPLIT and JUMP a distance u16 (modulo 65536) from their own place; END and ANY
nothing. Row of a simple type: kind u8, then ENUM: first name u16, count u16; BITS: low i16, span
u16; INTEGER and UNSIGNED: two bounds as length u8 (255: none) and magnitude.

Event codes are those of strict=false without fidelity options: each state has one code more than
it has events, the escape to undeclared events. EXI does not check length facets.
"""

from evcc.exi.errors import ExiError
from evcc.pause import pause

END = 0
ELEMENT = 1
SIMPLE = 2
ATTRIBUTE = 3
TEXT = 4
ANY = 5
SPLIT = 6
JUMP = 7
OP = 7
OPTIONAL = 0x08
LIST = 0x10
ABSTRACT = 0x20
MIXED = 0x40
GLOBAL = 0x08  # in ELEMENTS
RELAXED = 0x10  # in ELEMENTS: places of a complex and a simple type follow at the place

# Kinds of values and of other events.
COMPLEX = 0
STRING = 1
BASE64 = 2
HEX = 3
ENUM = 4
BITS = 5
BOOLEAN = 6
UNSIGNED = 7
INTEGER = 8
STOP = 9
REFUSED = 10
KIND = 15
# Flags of a kind: the value has an element of its own; it is the text beside attributes.
IN_ELEMENT = 16
IS_TEXT = 32

MOST = 1024  # items of a list without a bound in the schema

_STOP = (STOP, "", None, None, 0, None)
_REFUSED = (REFUSED, "", None, None, 0, None)


class Grammar:
    """The grammars of one schema.

    State: `[16 - width of its event codes, mask of that width, events, key]`, events None until
    `fill`, which sets them last: threads may fill a state twice, but never see half of one.
    Event: a place in CODE until `event` makes it the tuple (kind and its flags, member name,
    datatype, next state, maximum, state after the maximum); maximum 0: the member is no list.
    Datatype: the start state for COMPLEX, else (first, count, width) for ENUM, (low, span, width)
    for BITS, (low, high) for integers.
    """

    def __init__(self, tables) -> None:
        self.tables = tables
        self.code = tables.CODE
        self._states: dict = {}
        self._types: dict = {}
        self._names: dict = {}
        self._indexes: dict = {}  # (text, first): index
        self._roots: list = []

    def u16(self, at: int) -> int:
        """The number of 16 bits at a place in CODE."""
        return self.code[at] << 8 | self.code[at + 1]

    def name(self, index: int) -> str:
        """The text of one name, decoded once."""
        text = self._names.get(index)
        if text is None:
            at, names, pairs = self._place(index), self.tables.NAMES, self.tables.PAIRS
            octets = bytearray()
            while names[at]:
                waiting = [names[at]]
                while waiting:
                    octet = waiting.pop()
                    if octet < 0x80:
                        octets.append(octet)
                    else:
                        pair = 2 * (octet - 0x80)
                        waiting += [pairs[pair + 1], pairs[pair]]
                at += 1
            text = self._names[index] = str(octets, "utf-8")
        return text

    def _pack(self, octets: bytes) -> bytes:
        pairs = self.tables.PAIRS
        for at in range(0, len(pairs), 2):
            octets = octets.replace(pairs[at : at + 2], bytes((0x80 + at // 2,)))
        return octets

    def _place(self, index: int) -> int:
        offsets = self.tables.OFFSETS
        return offsets[2 * index] << 8 | offsets[2 * index + 1]

    def find(self, text: str, first: int, count: int) -> int:
        """The index of `text` among `count` names from `first` on, or -1."""
        index = self._indexes.get((text, first), -1)
        if index >= 0:
            return index
        if not all(0 < ord(character) < 0x80 for character in text):
            return -1
        pause()
        at = self.tables.NAMES.find(b"\0" + self._pack(text.encode()) + b"\0") + 1
        place, offsets = bytes((at >> 8, at & 0xFF)), self.tables.OFFSETS
        found = offsets.find(place, 2 * first, 2 * (first + count))
        while found > 0 and found & 1:  # the halves of two neighbours
            found = offsets.find(place, found + 1, 2 * (first + count))
        if found < 0:
            return -1
        index = self._indexes[text, first] = found // 2
        return index

    def after(self, at: int) -> list:
        """Keys of the states after an event: the next one, and the one after the maximum."""
        op = self.code[at]
        if op & OP in (END, ANY):
            return []
        if not op & LIST:
            return [at + 5]
        most = self.u16(at + 5)
        if most == 1:
            return [at + 7]
        return [~at, at + 7] if most else [~at]

    def closure(self, key: int) -> list:
        """Places of the events of a state, in the order of their codes (8.5.4.3).

        Key: a place; or ~place, where the counted element there may be repeated.
        """
        code = self.code
        places: list = []
        waiting = [key]
        while waiting:
            at = waiting.pop()
            again = at < 0
            at = ~at if again else at
            op = code[at] & OP
            if op in (JUMP, SPLIT):
                if op == SPLIT:
                    waiting.append(at + 3)
                waiting.append(at + self.u16(at + 1) & 0xFFFF)
            elif at not in places:
                places.append(at)
                if op != END and (code[at] & OPTIONAL or again):
                    waiting.append(at + self._size(at))
        places.sort()  # programs are laid out in schema order
        wild = [p for p in places if code[p] & OP == ANY]
        ends = [p for p in places if code[p] & OP == END]
        # Elements first, then one SE(*), then EE.
        return [p for p in places if code[p] & OP not in (ANY, END)] + wild[:1] + ends

    def _size(self, at: int) -> int:
        """Bytes of the instruction at a place."""
        op = self.code[at]
        if op & OP in (SPLIT, JUMP):
            return 3
        return 1 if op & OP in (ANY, END) else 7 if op & LIST else 5

    def state(self, key: int) -> list:
        """The state of a key of `closure`, made at its first visit; its events may be None."""
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = [0, 0, None, key]
        return state

    def fill(self, state: list) -> list:
        """Give a state its events; returns it."""
        pause()
        places = self.closure(state[3])
        ops = [self.code[p] for p in places]
        events: list = list(places)
        for i, op in enumerate(ops):
            if op & OP == END:
                events[i] = _STOP
            elif op & OP == ANY:
                events[i] = _REFUSED
        if any(op & MIXED for op in ops):
            events.append(_REFUSED)
        width = bits(len(events))
        state[0], state[1] = 16 - width, (1 << width) - 1
        state[2] = events
        return state

    def event(self, events: list, index: int) -> tuple:
        """Make one event of a state from its place."""
        pause()
        at = events[index]
        if type(at) is not int:  # another thread has made it
            return at
        op = self.code[at]
        kind, datatype = self.type(op, self.u16(at + 3))
        after = [self.state(k) for k in self.after(at)]
        most = 0
        if op & LIST:
            most = (self.u16(at + 5) if len(after) > 1 else 0) or MOST
        if op & ABSTRACT:
            kind = REFUSED
        if op & OP == TEXT:
            name = "value"
            kind |= IS_TEXT
        else:
            name = self.name(self.u16(at + 1))
            if op & OP == SIMPLE:
                kind |= IN_ELEMENT
        full = after[1] if len(after) > 1 else None
        event = (kind, name, datatype, after[0], most, full)
        events[index] = event
        return event

    def type(self, op: int, at: int) -> tuple:
        """(kind, datatype) of the type at a place; `op` says whether it is complex."""
        if op & OP == ELEMENT:
            return COMPLEX, self.state(at)
        row = self._types.get(at)
        if row is None:
            kind, datatype = self.code[at], None
            if kind == ENUM:
                count = self.u16(at + 3)
                datatype = (self.u16(at + 1), count, bits(count - 1))
            elif kind == BITS:
                low, span = self.u16(at + 1), self.u16(at + 3)
                datatype = (low - (low >> 15 << 16), span, bits(span))
            elif kind in (INTEGER, UNSIGNED):
                low, at2 = self._bound(at + 1)
                high, _ = self._bound(at2)
                datatype = (-low if low and kind == INTEGER else low, high)
            row = self._types[at] = (kind, datatype)
        return row

    def _bound(self, at: int) -> tuple:
        size = self.code[at]
        if size == 255:
            return None, at + 1
        return int.from_bytes(self.code[at + 1 : at + 1 + size], "big"), at + 1 + size

    # -- names of elements ------------------------------------------------------------------

    def count(self) -> int:
        """The number of element names in the schema: also the fragment code of SE(*)."""
        return len(self.tables.ELEMENTS) // 3

    def element(self, index: int) -> tuple:
        """(flags, place of the type) of an element name."""
        row = self.tables.ELEMENTS[3 * index : 3 * index + 3]
        return row[0], row[1] << 8 | row[2]

    def only(self, name: str) -> int:
        """The index of the one element of this name. Raises: ExiError("unknown") if there is none,
        or several."""
        single = self._indexes.get((name, -1))
        if single is None:  # cached: the search for a second element takes long
            index, count = self.find(name, 0, self.count()), self.count()
            if index < 0:
                raise ExiError("unknown", "element " + name)
            if self.find(name, index + 1, count - index - 1) >= 0:
                raise ExiError("unknown", name + ": in several namespaces of the schema")
            single = self._indexes[name, -1] = index
        return single

    def roots(self) -> list:
        """Indexes of the global elements; the place in it is the document's event code."""
        if not self._roots:
            flags = self.tables.ELEMENTS
            self._roots = [i for i in range(self.count()) if flags[3 * i] & GLOBAL]
        return self._roots

    def members(self, at: int) -> list:
        """All members of the complex type at a place: (name index or -1 for text, opcode and
        flags, place of the type)."""
        rows = []
        while self.code[at] & OP != END:
            op = self.code[at]
            if op & OP not in (SPLIT, JUMP, ANY):
                name = -1 if op & OP == TEXT else self.u16(at + 1)
                rows.append((name, op, self.u16(at + 3)))
            at += self._size(at)
        return rows


def bits(value: int) -> int:
    """The number of bits of `value`: the width of a code among value + 1."""
    width = 0
    while value:
        width += 1
        value >>= 1
    return width


_loaded: dict = {}


def forget() -> None:
    """Drop all states, which the next messages make again: some 20 KB of heap after a session."""
    _loaded.clear()


def load(schema: str) -> Grammar:
    """The grammars of a schema: "iso2", "sap" or "xmldsig"; its tables are imported on first use.

    Raises: ExiError("unknown").
    """
    grammar = _loaded.get(schema)
    if grammar is None:
        if schema == "iso2":
            from evcc.exi import iso2 as tables
        elif schema == "sap":
            from evcc.exi import sap as tables
        elif schema == "xmldsig":
            from evcc.exi import xmldsig as tables
        else:
            raise ExiError("unknown", "schema " + schema)
        pause()  # the tables took long to import
        grammar = _loaded[schema] = Grammar(tables)
    return grammar
