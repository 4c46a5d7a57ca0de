"""Captures of sessions for `inspect`, and what its report says of them."""

import ipaddress
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from captured import (
    CAR,
    STATION,
    TlsPair,
    converse,
    station_chain,
    steady_clock,
)
from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from evcc.network import sdp
from plugvault.capture import Capture
from plugvault.capture.files import Frame
from plugvault.inspection.report import Report
from world import NOW, World

NAMES = [
    "supportedAppProtocolReq",
    "supportedAppProtocolRes",
    "SessionSetupReq",
    "SessionSetupRes",
    "ServiceDiscoveryReq",
    "ServiceDiscoveryRes",
    "ServiceDetailReq",
    "ServiceDetailRes",
    "PaymentServiceSelectionReq",
    "PaymentServiceSelectionRes",
    "CertificateInstallationReq",
    "CertificateInstallationRes",
    "PaymentDetailsReq",
    "PaymentDetailsRes",
    "AuthorizationReq",
    "AuthorizationRes",
    "SessionStopReq",
    "SessionStopRes",
]
NO_ENCRYPT_THEN_MAC = 1 << 19  # of OpenSSL's options
Messages = list[tuple[bool, bytes]]


def search(capture: Capture, security: int = sdp.TLS) -> None:
    """SDP as car and station speak it."""
    address = ipaddress.ip_address("fe80::1").packed
    capture.datagram(CAR, (sdp.GROUP, sdp.PORT), sdp.request(sdp.TLS))
    capture.datagram((STATION[0], sdp.PORT), CAR, sdp.response(address, STATION[1], security))


def over_tls(path: Path, world: World, spoken: Messages, **changes: Any) -> bytes:
    """The capture of a session over TLS."""
    with Capture(path, clock=steady_clock(NOW)) as capture:
        search(capture)
        pair = TlsPair(capture, chain=station_chain(world), **changes)
        converse(pair, spoken)
        pair.close()
    return path.read_bytes()


def plain(path: Path, spoken: Iterable[tuple[bool, bytes]], clock: Any = None) -> bytes:
    """The capture of messages without TLS, at the station."""
    with Capture(path, clock=clock or steady_clock(NOW)) as capture:
        connection = capture.connection(STATION, CAR)
        for by_car, data in spoken:
            connection.wire("in" if by_car else "out", data)
        connection.close("in")
    return path.read_bytes()


def of(report: Report, verdict: str) -> list[str]:
    return [check.check for check in report.checks if check.verdict == verdict]


def names(report: Report, number: int = 0) -> list[str]:
    return [message["name"] for message in report.content["sessions"][number]["messages"]]


def detail(report: Report, check: str) -> str:
    (found,) = [c for c in report.checks if c.check == check]
    return found.detail


def pcap(
    frames: Iterable[Frame],
    link: int = 101,
    wrap: Callable[[bytes], bytes] = bytes,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
) -> bytes:
    """A classic capture file."""
    unit = 1 if magic == 0xA1B23C4D else 1000
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for frame in frames:
        body = wrap(frame.data)
        seconds, fraction = divmod(frame.time, 10**9)
        head = struct.pack(order + "IIII", seconds, fraction // unit, len(body), len(body))
        data += head + body
    return data


def envelope(name: str, body: dict[str, Any], session_id: bytes = bytes(8)) -> bytes:
    return v2gtp.encode(exi.encode(messages.envelope(session_id, name, body)))
