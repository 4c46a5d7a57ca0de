"""V2GTP frames [ISO 15118-2 section 7.8.3]: their headers, and the messages inside."""

from typing import Any

from evcc import protocols
from evcc.link.v2gtp import EXI, HEADER_BYTES
from plugvault.inspection.messages import inspect_exi
from plugvault.inspection.report import Report, Scope, UnreadableError

VERSION = b"\x01\xfe"
SDP_REQUEST, SDP_RESPONSE = 0x9000, 0x9001
_TYPES = {EXI: "EXI message", SDP_REQUEST: "SDP request", SDP_RESPONSE: "SDP response"}
_SECURITY = {0x00: "TLS", 0x10: "none"}
_TRANSPORT = {0x00: "TCP", 0x10: "UDP"}


def inspect_v2gtp(data: bytes, scope: Scope) -> Report:
    """One frame or several after one another."""
    parts: list[Report] = []
    at = 0
    while at < len(data) and len(parts) < 1000:
        part, at = _frame(data, at, scope)
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    report = Report("V2GTP frames", {"frames": [part.content for part in parts]})
    for number, part in enumerate(parts):
        report.include(part, f"frame {number + 1} ({part.kind.removeprefix('V2GTP, ')})")
    return report


def _frame(data: bytes, at: int, scope: Scope) -> tuple[Report, int]:
    """The report of the frame at `at`, and where the next begins."""
    head = data[at : at + HEADER_BYTES]
    if len(head) < HEADER_BYTES or head[:2] != VERSION:
        report = Report("V2GTP, broken", {"header": head.hex()})
        report.add("V2GTP header", False, "not 01 FE, a type and a length")
        return report, len(data)
    payload_type, length = int.from_bytes(head[2:4], "big"), int.from_bytes(head[4:], "big")
    payload = data[at + HEADER_BYTES : at + HEADER_BYTES + length]
    foreign = "" if payload_type in _TYPES else protocols.of_payload(payload_type)
    if foreign:
        foreign = f"{foreign}, {protocols.LATER}"
    name = _TYPES.get(payload_type) or foreign or "unknown payload"
    inner, why = None, f"not an {name}"
    try:
        inner = _payload(payload_type, payload, scope)
    except UnreadableError as error:
        why = str(error)
    kind = f"V2GTP, {inner.kind if inner else name}"
    content: dict[str, Any] = {
        "v2gtp": {"payloadType": f"{payload_type:04x}", "means": name, "length": length},
        **(inner.content if inner else {"payload": payload.hex()}),
    }
    report = Report(kind, content)
    is_known = None if foreign else payload_type in _TYPES
    report.add("V2GTP payload type", is_known, f"{payload_type:04x}, {name}")
    is_complete = len(payload) == length
    report.add(
        "V2GTP length",
        is_complete,
        f"{length} bytes" if is_complete else f"{length}, {len(payload)} there",
    )
    if inner:
        report.include(inner, "")
    elif payload_type in _TYPES:
        report.add("payload readable", False, why)
    return report, at + HEADER_BYTES + length


def _payload(payload_type: int, payload: bytes, scope: Scope) -> Report | None:
    if payload_type == EXI:
        return inspect_exi(payload, scope)
    if payload_type == SDP_REQUEST and len(payload) == 2:
        return Report("SDP request", _sdp(payload))
    if payload_type == SDP_RESPONSE and len(payload) == 20:
        address = ":".join(payload[i : i + 2].hex() for i in range(0, 16, 2))
        port = int.from_bytes(payload[16:18], "big")
        return Report("SDP response", {"address": address, "port": port, **_sdp(payload[18:])})
    return None


def _sdp(payload: bytes) -> dict[str, str]:
    return {
        "security": _SECURITY.get(payload[0], f"{payload[0]:02x}"),
        "transport": _TRANSPORT.get(payload[1], f"{payload[1]:02x}"),
    }
