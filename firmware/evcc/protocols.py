"""The names of the protocols that peers speak, known by payload type, namespace or document.

ISO 15118-2 is the one that is spoken here; the others have names, so that a message can say which
protocol it belongs to and that this one is not supported yet.
"""

ISO2 = "ISO 15118-2"
ISO20 = "ISO 15118-20"
DIN = "DIN 70121"
SDP = "SDP"
LATER = "not supported (yet)"

# Payload types of V2GTP above EXI of ISO 15118-2 (8001), which DIN 70121 uses, too.
_PAYLOADS = {
    0x8002: "common messages",
    0x8003: "AC",
    0x8004: "DC",
    0x8005: "ACDP",
    0x8006: "WPT",
    0x8101: "schedule renegotiation",
    0x8102: "metering confirmation",
    0x8103: "ACDP status",
    0x8104: "parking status",
}
_NAMESPACES = (
    ("urn:iso:15118:2:", ISO2),
    ("urn:iso:std:iso:15118:-20:", ISO20),
    ("urn:din:70121:", DIN),
)
_DIN_DOCUMENT = 0x4D  # event code of V2G_Message among the roots of DIN 70121, in 7 bits


def of_payload(payload_type: int) -> str:
    """The protocol of a V2GTP payload type that is not EXI of ISO 15118-2; "" if none is known."""
    if payload_type in _PAYLOADS:
        return ISO20 + " (" + _PAYLOADS[payload_type] + ")"
    if 0x9000 <= payload_type <= 0x9003:
        return SDP
    return ""


def of_namespace(namespace: str) -> str:
    """The protocol of a ProtocolNamespace; the namespace itself if none is known."""
    for start, name in _NAMESPACES:
        if namespace.startswith(start):
            return name
    return namespace


def is_din(document: bytes) -> bool:
    """Whether an EXI document of payload type 8001 begins as a V2G_Message of DIN 70121."""
    return len(document) > 1 and document[0] == 0x80 and document[1] >> 1 == _DIN_DOCUMENT
