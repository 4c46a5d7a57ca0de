"""EXI messages as JSON documents and back.

The JSON form has the schema's element names: base64Binary is base64, hexBinary upper-case hex,
integers are numbers, attributes are members, simple content beside attributes is `value`, and a
member that can occur more than once is a list. In memory (`evcc.exi`) both binaries are bytes. The
types come from the tables of the codec.

Unknown members and wrong types pass through: the codec refuses them and names their path.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, NamedTuple

from evcc import exi, protocols
from evcc.exi import ExiError, grammar
from evcc.link import v2gtp
from plugvault import json_file

_MESSAGE = 0x4C  # event code of V2G_Message among the roots of iso2, in 7 bits
_SESSION_ID_OF_8 = 0x008  # three event codes of 0 in one bit each, and the length in 8 bits


def detect(data: bytes) -> str:
    """The schema of an EXI document: the one that decodes it.

    The first octets identify a V2G_Message. For a document that no schema decodes, the likelier
    schema, as its error is the most useful: SupportedAppProtocol has roots of 2 bits, and both
    begin with 0.
    """
    if len(data) < 2 or data[1] >> 1 == _MESSAGE:
        return "iso2"
    likely = "sap" if data[1] < 0x80 else "iso2"
    for schema in dict.fromkeys((likely, "iso2", "xmldsig")):
        with suppress(ExiError):
            exi.decode(data, schema)
            return schema
    return likely


def unframed(data: bytes) -> bytes:
    """The EXI of some bytes: the bytes themselves, or the payload of their one V2GTP frame.

    Raises ExiError: "unsupported" for a frame of another protocol, "truncated", "trailing" for
    several frames.
    """
    if data[:2] != b"\x01\xfe":
        return data
    if data[2:4] != v2gtp.EXI.to_bytes(2, "big"):
        name = name_of_foreign(data) or f"payload type {data[2:4].hex()}, not 8001"
        raise ExiError("unsupported", f"a V2GTP frame of {name}")
    length, payload = int.from_bytes(data[4:8], "big"), data[v2gtp.HEADER_BYTES :]
    if len(data) < v2gtp.HEADER_BYTES or len(payload) < length:
        raise ExiError("truncated", f"a V2GTP frame of {length} bytes has {len(payload)}")
    if payload[length : length + 2] == b"\x01\xfe":
        raise ExiError("trailing", "several V2GTP frames: `plugvault inspect` reads them all")
    return payload


def name_of_foreign(data: bytes) -> str:
    """The kind of bytes that no schema decodes, in a few words; "" for an unknown one."""
    if data[:2] == b"\x01\xfe":
        name = protocols.of_payload(int.from_bytes(data[2:4], "big"))
        name = name if name.startswith(protocols.ISO20) else ""
    else:
        name = foreign_protocol(data)
    return f"a message of {name}: {protocols.LATER}" if name else ""


def foreign_protocol(document: bytes) -> str:
    """The protocol of an EXI document without a frame that no schema decodes; "" for an unknown
    one."""
    if protocols.is_din(document):
        return protocols.DIN
    return protocols.ISO20 if _is_iso20(document) else ""


def _is_iso20(document: bytes) -> bool:
    """Whether it begins as a message of ISO 15118-20: the event code of its root in 6 bits, then
    a header with a SessionID of 8 bytes. A V2G_Message of ISO 15118-2 or DIN 70121 with these bits
    would have a SessionID of 16 bytes, and 8 are the most there."""
    after_root = int.from_bytes(document[1:4], "big") & 0x3FFFF
    return len(document) > 3 and document[0] == 0x80 and after_root >> 7 == _SESSION_ID_OF_8


def detect_root(document: object) -> str:
    """The schema of a JSON document, from the name of its root."""
    if isinstance(document, dict) and len(document) == 1:
        for schema in ("iso2", "sap", "xmldsig"):
            if root_index(next(iter(document)), schema) is not None:
                return schema
    return "iso2"


def loads(text: str | bytes) -> Any:
    """Parse JSON. Raises ExiError for text that is no JSON, and for a member that occurs twice,
    because one of the two would be lost."""
    try:
        return json_file.parse(text, _unique)
    except json_file.JsonError as e:
        raise ExiError("value", str(e)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ExiError("value", f"member {name} given twice")
        members[name] = value
    return members


def to_json(message: dict[str, Any], schema: str = "iso2") -> dict[str, Any]:
    """A decoded message as a JSON document: base64Binary as base64, hexBinary as upper-case
    hexadecimal."""
    return {
        name: _convert(_OUT, value, row_of_root(name, schema), name)
        for name, value in message.items()
    }


def from_json(document: dict[str, Any], schema: str = "iso2") -> dict[str, Any]:
    """A JSON document as `evcc.exi.encode` takes it. Raises ExiError: "value" for bad base64 or
    hexadecimal, "type" for another document than an object of one root."""
    if not isinstance(document, dict) or len(document) != 1:
        raise ExiError("type", "a message is an object of one root element")
    return {
        name: _convert(_IN, value, row_of_root(name, schema), name)
        for name, value in document.items()
    }


def fragment_arguments(
    document: Any, element: str, schema: str | None = None
) -> tuple[int, Any, str]:
    """The arguments of `evcc.exi.fragment`: (index of the name, value, schema).

    `document`: the JSON of a whole message that contains the element, or of the element itself,
    with or without its name around it. SignedInfo is always of schema xmldsig. Raises ExiError if
    the message does not contain the element, or contains it more than once.
    """
    index, value, message_schema = _find(document, element, schema)
    schema = "xmldsig" if element == "SignedInfo" else message_schema or "iso2"
    if index is None or schema == "xmldsig":
        index = grammar.load(schema).only(element)
    return index, _convert(_IN, value, _element(index, schema, value), element), schema


def _find(document: Any, element: str, schema: str | None) -> tuple[int | None, Any, str | None]:
    """(index of the name in a message or None, value, schema) of an element."""
    if not (isinstance(document, dict) and len(document) == 1):
        return None, document, schema
    root = next(iter(document))
    message_schema = schema or detect_root(document)
    index_of_root = root_index(root, message_schema)
    if index_of_root is None:
        return None, document[root] if root == element else document, schema
    row = row_of_root(root, message_schema)
    elements = list(_search(element, index_of_root, document[root], row))
    if len(elements) > 1:
        places = f"in {len(elements)} places of the message: give one alone"
        raise ExiError("value", f"{element}: {places}")
    if elements:
        index, value = elements[0]
        return index, value, message_schema
    if root != element:
        raise ExiError("missing", f"{element}: not in the message")
    return None, document, schema


# -- types ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """The type of a member. kind: of `grammar`; many: whether it is a list; place: of a complex
    type in the tables of `schema`."""

    kind: int
    many: bool
    place: int
    schema: str


_NONE = Row(grammar.STRING, False, 0, "")


@lru_cache(256)
def root_index(name: str, schema: str) -> int | None:
    """The index of a root element's name; None for a name that is no root."""
    tables = grammar.load(schema)
    return next((i for i in tables.roots() if tables.name(i) == name), None)


@lru_cache(256)
def row_of_root(root: str, schema: str) -> Row:
    """The type of a root element."""
    index = root_index(root, schema)
    return _NONE if index is None else _element(index, schema, None)


def _element(index: int, schema: str, value: object) -> Row:
    """The type of an element by its name; for a name with two types, `value` decides."""
    tables = grammar.load(schema)
    flags, place = tables.element(index)
    if flags & grammar.RELAXED:
        simple = not isinstance(value, dict)
        flags = grammar.SIMPLE if simple else grammar.ELEMENT
        place = tables.u16(place + 2 * simple)
    kind, _ = tables.type(flags, place)
    return Row(kind, False, place, schema)


def members_of(row: Row) -> dict[str, tuple[int, Row]]:
    """The members of a complex type: name to (index of the name, type); the text beside attributes
    is "value", with an index below 0."""
    return _members(row.place, row.schema)


@cache
def _members(place: int, schema: str) -> dict[str, tuple[int, Row]]:
    """The members of a complex type: name to (index of the name, type)."""
    tables = grammar.load(schema)
    members = {}
    for index, op, at in tables.members(place):
        kind, _ = tables.type(op, at)
        many = bool(op & grammar.LIST)
        members["value" if index < 0 else tables.name(index)] = index, Row(kind, many, at, schema)
    return members


def _search(name: str, index: int, value: Any, row: Row) -> Iterator[tuple[int, Any]]:
    """Every element of a name in a document, with the name's index."""
    kind, _, place, schema = row
    if grammar.load(schema).name(index) == name:
        yield index, value
    if kind == grammar.COMPLEX and isinstance(value, dict):
        members = _members(place, schema)
        for key, inner in value.items():
            at, type_ = members.get(key, (-1, _NONE))
            if at >= 0:
                for item in inner if type_[1] and isinstance(inner, list) else [inner]:
                    yield from _search(name, at, item, type_)


# -- values -----------------------------------------------------------------------------------

_Leaves = dict[int, Callable[[Any, str], Any]]


def _convert(leaves: _Leaves, value: Any, row: Row, path: str) -> Any:
    kind, many, place, schema = row
    if many:
        if not isinstance(value, list):
            return value
        item_row = Row(kind, False, place, schema)
        return [_convert(leaves, item, item_row, path) for item in value]
    if kind == grammar.COMPLEX:
        if not isinstance(value, dict):
            return value
        members = _members(place, schema)
        return {
            name: _convert(leaves, item, members.get(name, (0, _NONE))[1], f"{path}/{name}")
            for name, item in value.items()
        }
    leaf = leaves.get(kind)
    return leaf(value, path) if leaf else value


def _from_base64(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        return _without_bytes(value)
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ExiError("value", f"{path}: not base64") from None
    if base64.b64encode(data).decode() != value:
        raise ExiError("value", f"{path}: not base64 in its one form")
    return data


def _from_hex(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        return _without_bytes(value)
    try:
        return binascii.unhexlify(value)
    except (binascii.Error, ValueError):
        raise ExiError("value", f"{path}: not hexadecimal") from None


def _without_bytes(value: Any) -> Any:
    """None for bytes, which the codec refuses: JSON has none, but a caller's dict might."""
    return None if isinstance(value, bytes | bytearray | memoryview) else value


def _to_base64(value: bytes, path: str) -> str:
    return base64.b64encode(value).decode()


def _to_hex(value: bytes, path: str) -> str:
    return value.hex().upper()


_IN: _Leaves = {grammar.BASE64: _from_base64, grammar.HEX: _from_hex}
_OUT: _Leaves = {grammar.BASE64: _to_base64, grammar.HEX: _to_hex}
