"""The few components of XML Schema documents that EXI 1.0 section 8.5.4 uses.

Reads a schema and its imports: element declarations, complex types (extension, simple and
mixed content), simple types with the facets that change the coding, substitution groups. Features
that the V2G schemas do not use (restriction of complex types, named groups, attribute wildcards,
unions, lists, patterns, dates, floats, `nillable`) raise SchemaError, and none is skipped.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

XS = "{http://www.w3.org/2001/XMLSchema}"
UNBOUNDED = 0

_BITS = {"Long": 64, "Int": 32, "Short": 16, "Byte": 8}
_STRINGS = ["string", "anyURI", "ID", "IDREF", "NCName", "token", "normalizedString"]
_IGNORED = {"length", "minLength", "maxLength", "whiteSpace", "annotation"}


class SchemaError(Exception):
    """The schema uses a feature that this tool does not know."""


@dataclass(frozen=True)
class Simple:
    """A simple type as EXI codes it. `kind`: string, base64, hex, boolean, enum, integer."""

    kind: str
    low: int | None = None
    high: int | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attribute:
    """An attribute of a complex type."""

    uri: str
    local: str
    type: Simple
    required: bool


@dataclass(eq=False)
class Element:
    """An element declaration, global or local."""

    uri: str
    local: str
    type: "Simple | Complex"
    definition: object  # the type's name, or the node of an anonymous one
    abstract: bool = False

    @property
    def qname(self) -> tuple[str, str]:
        """The key of EXI's order of names: local name first."""
        return self.local, self.uri


@dataclass
class Particle:
    """`kind`: element (then `item` is its declarations, the substitution group sorted), sequence
    or choice (then `item` is particles), any."""

    kind: str
    low: int
    high: int
    item: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Complex:
    """A complex type. content: a content model, a simple type, or None for an empty one."""

    attributes: list[Attribute]
    content: Particle | Simple | None
    mixed: bool = False


def _integers() -> dict[str, Simple]:
    types = {
        "integer": Simple("integer"),
        "nonNegativeInteger": Simple("integer", 0),
        "positiveInteger": Simple("integer", 1),
    }
    for name, bits in _BITS.items():
        half = 1 << bits - 1
        types[name.lower()] = Simple("integer", -half, half - 1)
        types["unsigned" + name] = Simple("integer", 0, 2 * half - 1)
    return types


BUILTIN = _integers() | {
    "base64Binary": Simple("base64"),
    "hexBinary": Simple("hex"),
    "boolean": Simple("boolean"),
    **{name: Simple("string") for name in _STRINGS},
}


class Schema:
    """All components reachable from one schema document."""

    def __init__(self, root: Path) -> None:
        self._top: dict[tuple[str, str, str], tuple[ET.Element, _Document]] = {}
        self._members: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._types: dict[object, Simple | Complex] = {}
        self._elements: dict[tuple[str, str], Element] = {}
        self._documents: set[Path] = set()
        self._open: list[ET.Element] = []
        self._load(root.resolve())
        self.elements: list[Element] = []
        self.attributes: list[Attribute] = []
        self.globals = sorted(
            (self._global(name) for tag, *name in self._top if tag == "element"),
            key=lambda e: e.qname,
        )
        for tag, uri, local in list(self._top):
            if tag == "complexType":
                self._type((uri, local))

    def _load(self, path: Path) -> None:
        if path in self._documents:
            return
        self._documents.add(path)
        root = ET.parse(path).getroot()
        prefixes: dict[str, str] = {}
        for _, (prefix, uri) in ET.iterparse(path, events=["start-ns"]):
            prefixes.setdefault(prefix, uri)
        document = _Document(prefixes, root)
        for node in root:
            tag = node.tag.removeprefix(XS)
            if tag in ("import", "include"):
                self._load((path.parent / node.attrib["schemaLocation"]).resolve())
            elif tag in ("element", "complexType", "simpleType"):
                name = document.uri, node.attrib["name"]
                self._top[tag, *name] = node, document
                if "substitutionGroup" in node.attrib:
                    head = document.resolve(node.attrib["substitutionGroup"])
                    self._members.setdefault(head, []).append(name)
            elif tag != "annotation":
                raise SchemaError(f"{path.name}: top-level {tag}")

    @contextmanager
    def _inside(self, node: ET.Element) -> Iterator[None]:
        """A type that contains itself would have no bound of depth."""
        if node in self._open:
            raise SchemaError("recursive: " + node.attrib["name"])
        self._open.append(node)
        yield
        self._open.pop()

    # -- elements ---------------------------------------------------------------------------

    def _global(self, name: tuple[str, str] | list[str]) -> Element:
        name = (name[0], name[1])
        if name not in self._elements:
            node, document = self._top["element", *name]
            with self._inside(node):
                self._elements[name] = self._element(node, document, name[0])
        return self._elements[name]

    def _element(self, node: ET.Element, document: "_Document", uri: str) -> Element:
        if node.get("nillable") == "true":
            raise SchemaError("nillable")
        named = node.get("type")
        definition = document.resolve(named) if named else node
        element = Element(uri, node.attrib["name"], BUILTIN["string"], definition)
        element.abstract = node.get("abstract") == "true"
        self.elements.append(element)
        element.type = self._type_of(node, document)
        return element

    def _type_of(self, node: ET.Element, document: "_Document") -> "Simple | Complex":
        if "type" in node.attrib:
            return self._type(document.resolve(node.attrib["type"]))
        inner = [n for n in node if n.tag in (XS + "complexType", XS + "simpleType")]
        if len(inner) != 1:
            raise SchemaError("element without a type: " + node.attrib["name"])
        if inner[0].tag == XS + "simpleType":
            return self._simple(inner[0], document)
        return self._complex(inner[0], document)

    def _substitutes(self, head: tuple[str, str]) -> list[Element]:
        """The head and everything that can stand for it, in EXI's order (8.5.4.1.6)."""
        elements, waiting = [], [head]
        while waiting:
            name = waiting.pop()
            elements.append(self._global(name))
            waiting += self._members.get(name, [])
        return sorted(elements, key=lambda e: e.qname)

    # -- types ------------------------------------------------------------------------------

    def _type(self, name: tuple[str, str]) -> "Simple | Complex":
        if name not in self._types:
            if name[0] == XS[1:-1]:
                if name[1] not in BUILTIN:
                    raise SchemaError("built-in type " + name[1])
                self._types[name] = BUILTIN[name[1]]
            elif ("simpleType", *name) in self._top:
                self._types[name] = self._simple(*self._top["simpleType", *name])
            else:
                node, document = self._top["complexType", *name]
                with self._inside(node):
                    self._types[name] = self._complex(node, document)
        return self._types[name]

    def _simple(self, node: ET.Element, document: "_Document") -> Simple:
        restriction = node.find(XS + "restriction")
        if restriction is None:
            raise SchemaError("list or union")
        base = self._type(document.resolve(restriction.attrib["base"]))
        if not isinstance(base, Simple):
            raise SchemaError("simple type restricting a complex one")
        low, high, values = base.low, base.high, []
        for facet in restriction:
            tag, value = facet.tag.removeprefix(XS), facet.get("value", "")
            if tag == "enumeration":
                values.append(value)
            elif tag == "minInclusive":
                low = int(value)
            elif tag == "maxInclusive":
                high = int(value)
            elif tag not in _IGNORED:
                raise SchemaError("facet " + tag)
        if values:
            if base.kind != "string":
                raise SchemaError("enumeration of " + base.kind)
            return Simple("enum", values=tuple(values))
        return Simple(base.kind, low, high, base.values)

    def _complex(self, node: ET.Element, document: "_Document") -> Complex:
        mixed = node.get("mixed") == "true"
        body, attributes = node, []
        content: Particle | Simple | None = None
        for inner in ("complexContent", "simpleContent"):
            node_inside = node.find(XS + inner)
            if node_inside is None:
                continue
            extension = node_inside.find(XS + "extension")
            if extension is None:
                raise SchemaError(inner + " without extension")
            base = self._type(document.resolve(extension.attrib["base"]))
            if isinstance(base, Complex):
                attributes, content = list(base.attributes), base.content
                mixed = mixed or base.mixed
            else:
                content = base
            body = extension
        for child in body:
            tag = child.tag.removeprefix(XS)
            if tag in ("sequence", "choice"):
                own = self._particle(child, document)
                if isinstance(content, Simple):
                    raise SchemaError("particle after simple content")
                both = content and Particle("sequence", 1, 1, [content, own])
                content = both or own
            elif tag == "attribute":
                attributes.append(self._attribute(child, document))
            elif tag not in ("complexContent", "simpleContent", "annotation"):
                raise SchemaError("in complexType: " + tag)
        attributes.sort(key=lambda a: (a.local, a.uri))
        return Complex(attributes, content, mixed)

    def _attribute(self, node: ET.Element, document: "_Document") -> Attribute:
        form = node.get("form", document.attributes)
        kind = self._type(document.resolve(node.attrib["type"]))
        if not isinstance(kind, Simple):
            raise SchemaError("attribute of a complex type")
        uri = document.uri if form == "qualified" else ""
        attribute = Attribute(uri, node.attrib["name"], kind, node.get("use") == "required")
        self.attributes.append(attribute)
        return attribute

    def _particle(self, node: ET.Element, document: "_Document") -> Particle:
        tag = node.tag.removeprefix(XS)
        low = int(node.get("minOccurs", "1"))
        most = node.get("maxOccurs", "1")
        high = UNBOUNDED if most == "unbounded" else int(most)
        item: list[Any]
        if tag in ("sequence", "choice"):
            item = [self._particle(n, document) for n in node if n.tag != XS + "annotation"]
        elif tag == "any":
            if node.get("namespace", "##any") not in ("##any", "##other"):
                raise SchemaError("wildcard of listed namespaces")
            item = []
        elif tag == "element" and "ref" in node.attrib:
            item = self._substitutes(document.resolve(node.attrib["ref"]))
        elif tag == "element":
            form = node.get("form", document.elements)
            uri = document.uri if form == "qualified" else ""
            item = [self._element(node, document, uri)]
        else:
            raise SchemaError("particle " + tag)
        return Particle(tag, low, high, item)


class _Document:
    """The rules of a schema document for the names inside it."""

    def __init__(self, prefixes: dict[str, str], root: ET.Element) -> None:
        self.prefixes = prefixes
        self.uri = root.get("targetNamespace", "")
        self.elements = root.get("elementFormDefault", "unqualified")
        self.attributes = root.get("attributeFormDefault", "unqualified")

    def resolve(self, name: str) -> tuple[str, str]:
        """(namespace, local name) of a prefixed name."""
        prefix, _, local = name.rpartition(":")
        return self.prefixes.get(prefix, ""), local
