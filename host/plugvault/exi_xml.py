"""EXI messages as XML documents and back, in the elements and namespaces of the schema.

The types come from the tables of the codec, the namespaces from `exi_names`. Prefixes, white space
around elements and comments have no meaning; the order of elements has. An attribute may be
without its namespace. Document types are refused.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from evcc import exi, protocols
from evcc.exi import ExiError, grammar
from plugvault import exi_json
from plugvault.exi_names import NAMES, URIS

LIMIT = 1 << 20  # bytes of a document; a bundle has about 6,000
_PREFIXES = {
    "http://www.w3.org/2000/09/xmldsig#": "ds:",
    "urn:iso:15118:2:2010:AppProtocol": "v2gci_a:",
    "urn:iso:15118:2:2013:MsgBody": "v2gci_b:",
    "urn:iso:15118:2:2013:MsgDataTypes": "v2gci_t:",
    "urn:iso:15118:2:2013:MsgDef": "v2gci_d:",
    "urn:iso:15118:2:2013:MsgHeader": "v2gci_h:",
    "": "",
}
_OF_XML = ("{http://www.w3.org/2001/XMLSchema-instance}", "{http://www.w3.org/XML/1998/namespace}")
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANY_ORDER = ("KeyInfo", "X509Data")  # of xmldsig, which no message of ISO 15118-2 uses
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_INTEGER = re.compile("[+-]?[0-9]{1,80}")
_Row = exi_json.Row


def to_xml(message: Mapping[str, Any], schema: str = "iso2", indent: bool = False) -> str:
    """A decoded message as an XML document. indent: one element per line. Raises ExiError: "value"
    for a character that XML cannot hold, "unknown" for another root."""
    ((name, value),) = message.items()
    index = exi_json.root_index(name, schema)
    if index is None:
        raise ExiError("unknown", f"{name} is no root of the schema {schema}")
    writer = _Writer(schema, "\n" if indent else "")
    body = "".join(writer.element(index, value, exi_json.row_of_root(name, schema), 0))
    declared = "".join(
        f' xmlns:{_PREFIXES[URIS[uri]][:-1]}="{URIS[uri]}"' for uri in sorted(writer.used)
    )
    head, rest = re.split("(?=[ />])", body, maxsplit=1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{declared}{rest}'


def from_xml(document: bytes, schema: str | None = None) -> tuple[dict[str, Any], str]:
    """(message as `evcc.exi.encode` takes it, its schema) of an XML document.

    schema: the one to use where a root is in several; None for the first that has the root. Raises
    ExiError: "length" above LIMIT bytes, "value" for no XML, and as the codec.
    """
    if len(document) > LIMIT:
        raise ExiError("length", f"XML of {len(document)} bytes, at most {LIMIT}")
    try:
        root = fromstring(document, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        raise ExiError("value", f"not XML: {error}") from None
    schema, name = _root(root, [schema] if schema else list(NAMES))
    value = _Reader(schema).element(root, exi_json.row_of_root(name, schema), name)
    message = {name: value}
    # The codec knows the schema's order: what it reads again has it.
    _check_order(message, exi.decode(exi.encode(message, schema), schema), "")
    return message, schema


def _root(element: Element, schemas: Sequence[str]) -> tuple[str, str]:
    uri, name = _split(element.tag)
    for schema in schemas:
        index = exi_json.root_index(name, schema)
        if index is not None and _uri(index, schema) == uri:
            return schema, name
    protocol = protocols.of_namespace(uri)
    if protocol not in (uri, protocols.ISO2):
        raise ExiError("unknown", f"{name} of {protocol}: {protocols.LATER}")
    raise ExiError("unknown", f"no message begins with {name} of the namespace {uri!r}")


def _check_order(document: Any, ordered: Any, path: str) -> None:
    if isinstance(document, dict) and isinstance(ordered, dict):
        for written, expected in zip(document, ordered, strict=False):
            if written != expected:
                detail = f"{path}/{written} stands where {expected} belongs"
                raise ExiError("event", detail)
        for name, value in document.items():
            if name in _ANY_ORDER:
                continue
            _check_order(value, ordered[name], f"{path}/{name}")
    elif isinstance(document, list):
        for item, other in zip(document, ordered, strict=True):
            _check_order(item, other, path)


def _uri(index: int, schema: str) -> str:
    return URIS[int(NAMES[schema][index])]


def _split(tag: str) -> tuple[str, str]:
    """(namespace, local name)"""
    uri, mark, name = tag.rpartition("}")
    return (uri.removeprefix("{"), name) if mark else ("", tag)


class _Writer:
    """Writes elements; notes the namespaces that it uses."""

    def __init__(self, schema: str, line_break: str) -> None:
        self._schema, self._break = schema, line_break
        self._count = grammar.load(schema).count()
        self.used: set[int] = set()

    def element(self, index: int, value: Any, row: _Row, depth: int) -> Iterator[str]:
        name = self._name(index)
        if row.kind != grammar.COMPLEX:
            yield f"<{name}>{escape(_text(value, row.kind, name), _RETURN)}</{name}>"
            return
        attributes, children, text = "", list[str](), ""
        for member, item in value.items():
            at, inner = exi_json.members_of(row)[member]
            if at < 0:
                text = escape(_text(item, inner.kind, name), _RETURN)
            elif at >= self._count:
                written = quoteattr(_text(item, inner.kind, name), _RETURN)
                attributes += f" {self._name(at)}={written}"
            else:
                for each in item if inner.many else [item]:
                    children.append("".join(self.element(at, each, inner, depth + 1)))
        if not children:
            yield f"<{name}{attributes}>{text}</{name}>"
            return
        indent = self._break and self._break + "  " * (depth + 1)
        inside = indent + indent.join(children) + (self._break and indent[:-2])
        yield f"<{name}{attributes}>{inside}</{name}>"

    def _name(self, index: int) -> str:
        uri = int(NAMES[self._schema][index])
        if URIS[uri]:
            self.used.add(uri)
        return _PREFIXES[URIS[uri]] + grammar.load(self._schema).name(index)


_RETURN = {"\r": "&#13;"}  # a reader would take an unescaped one for the end of a line


def _text(value: Any, kind: int, name: str) -> str:
    if isinstance(value, bytes):
        return value.hex().upper() if kind == grammar.HEX else base64.b64encode(value).decode()
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if _NOT_IN_XML.search(text):
        raise ExiError("value", f"{name}: a character that XML cannot hold")
    return text


class _Reader:
    def __init__(self, schema: str) -> None:
        self._schema = schema

    def element(self, element: Element, row: _Row, path: str) -> Any:
        if row.kind != grammar.COMPLEX:
            return self._simple(element, row, path)
        members = {
            (_uri(at, self._schema) if at >= 0 else "", name): (at, inner)
            for name, (at, inner) in exi_json.members_of(row).items()
        }
        value = self._attributes(element, members, path)
        if ("", "value") in members and members["", "value"][0] < 0:
            inner = members["", "value"][1]
            value["value"] = self._simple(element, inner, path)
            return value
        texts = [element.text, *(child.tail for child in element)]
        if any(text and text.strip() for text in texts):
            raise ExiError("type", f"{path}: has a text where elements belong")
        for child in element:
            name = _split(child.tag)
            found = members.get(name)
            if found is None:
                raise ExiError(
                    "unknown", f"{path}/{name[1]}: not expected{_elsewhere(name, members)}"
                )
            item = self.element(child, found[1], f"{path}/{name[1]}")
            if found[1].many:
                value.setdefault(name[1], []).append(item)
            elif name[1] in value:
                raise ExiError("value", f"{path}/{name[1]}: more than once")
            else:
                value[name[1]] = item
        return value

    def _attributes(
        self, element: Element, members: Mapping[tuple[str, str], Any], path: str
    ) -> dict[str, Any]:
        count = grammar.load(self._schema).count()
        known = {name: (at, row) for (_, name), (at, row) in members.items() if at >= count}
        value = {}
        for attribute, text in element.attrib.items():
            if attribute.startswith(_OF_XML):
                continue
            uri, name = _split(attribute)
            if name not in known or uri not in ("", _uri(known[name][0], self._schema)):
                raise ExiError("unknown", f"{path}/@{attribute}: not expected")
            value[name] = _value(text, known[name][1], f"{path}/@{name}")
        return value

    def _simple(self, element: Element, row: _Row, path: str) -> Any:
        if len(element):
            raise ExiError("type", f"{path}: has elements where a text belongs")
        return _value(element.text or "", row, path)


def _elsewhere(name: tuple[str, str], members: Mapping[tuple[str, str], Any]) -> str:
    """The namespace that an element of this name has there, for an error."""
    uris = [uri for uri, local in members if local == name[1] and uri != name[0]]
    return f" in the namespace {name[0]!r}, but in {uris[0]!r}" if uris else ""


def _value(text: str, row: _Row, path: str) -> Any:
    if row.kind == grammar.STRING:
        return text
    text = text.strip()
    try:
        if row.kind == grammar.BASE64:
            return base64.b64decode("".join(text.split()), validate=True)
        if row.kind == grammar.HEX:
            return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        kind = "base64" if row.kind == grammar.BASE64 else "hexadecimal"
        raise ExiError("value", f"{path}: not {kind}") from None
    if row.kind == grammar.BOOLEAN:
        if text not in _BOOLEANS:
            raise ExiError("value", f"{path}: {text[:20]!r} is neither true nor false")
        return _BOOLEANS[text]
    if row.kind in (grammar.BITS, grammar.UNSIGNED, grammar.INTEGER):
        if not _INTEGER.fullmatch(text):
            raise ExiError("value", f"{path}: {text[:20]!r} is no integer")
        return int(text)
    return text
