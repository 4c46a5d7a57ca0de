"""The XML form of a signed contract bundle, which CPS and CCP exchange [OPCP 1.0.0].

The signature is over EXI, so the XML is only a carrier: prefixes and white space have no meaning,
elements and their order have. Only CertificateInstallationRes is supported. An empty SessionID is
left out when writing and added when reading.
"""

import binascii
import re
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import pybase64
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from evcc.errors import EvccError
from plugvault import exi_xml
from plugvault.contract.iso15118_2.bundle import NO_SESSION, Message

LIMIT = 32_768  # characters: a bundle has about 6,000

DEF = "urn:iso:15118:2:2013:MsgDef"
HEADER = "urn:iso:15118:2:2013:MsgHeader"
BODY = "urn:iso:15118:2:2013:MsgBody"
TYPES = "urn:iso:15118:2:2013:MsgDataTypes"
DSIG = "http://www.w3.org/2000/09/xmldsig#"


class XmlError(EvccError):
    """XML that is not a CertificateInstallationRes."""

    REASONS = ("format", "element", "value", "too-long")


_Text = Callable[[str], Any]


def _decode(text: str) -> bytes:
    return pybase64.b64decode("".join(text.split()), validate=True)


def _hex(text: str) -> bytes:
    if not re.fullmatch("(?:[0-9A-Fa-f]{2}){1,8}", text):
        raise ValueError("not a SessionID")
    return bytes.fromhex(text)


class _Node:
    """One row of the table of elements.

    `children`: (namespace, name, node, is a list); `attributes`: (member, attribute's name);
    `text`: the conversion of its text.
    """

    def __init__(
        self,
        *children: tuple[str, str, "_Node", bool],
        text: _Text | None = None,
        attributes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.children = children
        self.text = text
        self.attributes = attributes


def _one(namespace: str, name: str, node: _Node) -> tuple[str, str, _Node, bool]:
    return namespace, name, node, False


def _many(namespace: str, name: str, node: _Node) -> tuple[str, str, _Node, bool]:
    return namespace, name, node, True


_ID = (("Id", f"{{{TYPES}}}Id"),)
_binary = _Node(text=_decode)
_algorithm = _Node(attributes=(("Algorithm", "Algorithm"),))
_certificates = (
    _one(TYPES, "Certificate", _binary),
    _one(TYPES, "SubCertificates", _Node(_many(TYPES, "Certificate", _binary))),
)
_reference = _Node(
    _one(DSIG, "Transforms", _Node(_many(DSIG, "Transform", _algorithm))),
    _one(DSIG, "DigestMethod", _algorithm),
    _one(DSIG, "DigestValue", _binary),
    attributes=(("URI", "URI"),),
)
_signed_info = _Node(
    _one(DSIG, "CanonicalizationMethod", _algorithm),
    _one(DSIG, "SignatureMethod", _algorithm),
    _many(DSIG, "Reference", _reference),
)
_signature = _Node(
    _one(DSIG, "SignedInfo", _signed_info),
    _one(DSIG, "SignatureValue", _Node(text=_decode, attributes=(("Id", "Id"),))),
)
_response = _Node(
    _one(BODY, "ResponseCode", _Node(text=str)),
    _one(BODY, "SAProvisioningCertificateChain", _Node(*_certificates)),
    _one(BODY, "ContractSignatureCertChain", _Node(*_certificates, attributes=_ID)),
    _one(BODY, "ContractSignatureEncryptedPrivateKey", _Node(text=_decode, attributes=_ID)),
    _one(BODY, "DHpublickey", _Node(text=_decode, attributes=_ID)),
    _one(BODY, "eMAID", _Node(text=str, attributes=_ID)),
)
_message = _Node(
    _one(
        DEF,
        "Header",
        _Node(_one(HEADER, "SessionID", _Node(text=_hex)), _one(DSIG, "Signature", _signature)),
    ),
    _one(DEF, "Body", _Node(_one(BODY, "CertificateInstallationRes", _response))),
)
_SIMPLE_WITH_ATTRIBUTES = "value"


def write(message: Message) -> bytes:
    """The message as an XML document, UTF-8."""
    content = message["V2G_Message"]
    header = dict(content["Header"])
    if header.get("SessionID") == NO_SESSION:
        del header["SessionID"]
    return exi_xml.to_xml({"V2G_Message": {**content, "Header": header}}).encode()


def read(document: bytes) -> Message:
    """The message of an XML document as a dict, as evcc's EXI codec has it.

    Raises XmlError: "too-long" above LIMIT bytes; "format" for no XML, or XML with a DTD;
    "element" for an unexpected, misplaced or repeated element; "value" for text that is not of its
    type.
    """
    if len(document) > LIMIT:
        raise XmlError("too-long", f"{len(document)} bytes, at most {LIMIT}")
    try:
        root = fromstring(document, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise XmlError("format", str(error)) from error
    if root.tag != f"{{{DEF}}}V2G_Message":
        raise XmlError("element", f"{root.tag} where V2G_Message is expected")
    content = _read(root, _message)
    content["Header"] = {"SessionID": NO_SESSION, **content.get("Header", {})}
    return {"V2G_Message": content}


def _read(element: Element, node: _Node) -> Any:
    value: Message = {}
    attributes = dict(element.attrib)
    for key, attribute in node.attributes:
        text = attributes.pop(attribute, None) or attributes.pop(key, None)
        if text is not None:
            value[key] = text
    unknown = [name for name in attributes if not name.startswith("{http://www.w3.org/2001/XML")]
    if unknown:
        raise XmlError("element", f"unexpected attribute {unknown[0]} in {element.tag}")
    if node.text:
        text = _read_text(element, node.text)
        return {**value, _SIMPLE_WITH_ATTRIBUTES: text} if node.attributes else text
    expected = {f"{{{ns}}}{name}": (name, inner, many) for ns, name, inner, many in node.children}
    order, last = list(expected), 0
    for child in element:
        if child.tag not in expected:
            raise XmlError("element", f"unexpected {child.tag} in {element.tag}")
        name, inner, many = expected[child.tag]
        if order.index(child.tag) < last:
            raise XmlError("element", f"{name} stands behind elements that follow it")
        last = order.index(child.tag)
        if many:
            value.setdefault(name, []).append(_read(child, inner))
        elif name in value:
            raise XmlError("element", f"{name} more than once in {element.tag}")
        else:
            value[name] = _read(child, inner)
    return value


def _read_text(element: Element, convert: Callable[[str], Any]) -> Any:
    if len(element):
        raise XmlError("element", f"elements inside {element.tag}")
    try:
        return convert((element.text or "").strip())
    except (ValueError, binascii.Error) as error:
        raise XmlError("value", f"{element.tag}: {error}") from error
