"""`plugvault inspect` tells each session in a capture, names violations, and believes nothing."""

import base64
import ipaddress
import json
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from defusedxml import ElementTree
from rich.console import Console

from captured import (
    CAR,
    STATION,
    TlsPair,
    converse,
    session,
    station_chain,
    steady_clock,
)
from evcc import exi, x509
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from evcc.network import sdp
from plugvault import inspection
from plugvault.capture import Capture, packets, streams
from plugvault.capture.files import Frame, records
from plugvault.capture.layers import Segment, packet
from plugvault.cli.app import main
from plugvault.inspection import capture as story_of_capture
from plugvault.inspection import conversation, inspect
from plugvault.inspection.report import FAILED, NOT_CHECKED, OK, Report, Scope, UnreadableError
from plugvault.inspection.sequence import draw
from plugvault.inspection.show import show
from plugvault.inspection.story import folded
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


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def spoken(world: World) -> Messages:
    return session(world)


@pytest.fixture(scope="module")
def scope(world: World) -> Scope:
    return Scope(NOW, tuple(x509.parse(der) for _, der in world.anchors))


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


@pytest.fixture
def whole(tmp_path: Path, world: World, spoken: Messages) -> bytes:
    return over_tls(tmp_path / "whole.pcapng", world, spoken)


@pytest.fixture
def frames(tmp_path: Path, spoken: Messages) -> list[Frame]:
    """The packets of a session without TLS."""
    data = plain(tmp_path / "frames.pcapng", spoken)
    return [record for record in records(BytesIO(data)) if isinstance(record, Frame)]


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


# -- a whole session ----------------------------------------------------------------------------


def test_a_session_is_told_from_its_search_to_its_end(whole: bytes, scope: Scope) -> None:
    report = inspect(whole, scope)
    assert report.kind == "capture"
    assert of(report, FAILED) == []
    (told,) = report.content["sessions"]
    assert names(report) == NAMES
    assert (told["car"], told["station"]) == ("[fe80::2]:51000", "[fe80::1]:49152")
    assert [search["name"] for search in told["sdp"]] == ["SDP request", "SDP response"]
    assert told["tls"]["suite"] == "ECDHE-ECDSA-AES128-SHA256"
    assert told["end"] == "closed by the car"
    assert report.content["searches"] == []


def test_an_installation_in_a_capture_has_every_check_of_the_message_alone(
    whole: bytes, spoken: Messages, scope: Scope
) -> None:
    alone = inspect(spoken[11][1], scope)
    head = "session 1, message 12 CertificateInstallationRes: "
    rows = [
        (check.check.removeprefix(head), check.verdict)
        for check in inspect(whole, scope).checks
        if check.check.startswith(head)
    ]
    left_out = ("V2GTP payload type", "V2GTP length", "EXI in its plain form")
    assert rows == [(c.check, c.verdict) for c in alone.checks if c.check not in left_out]
    assert len(rows) > 40


def test_a_signature_is_verified_with_the_contract_of_its_session(
    whole: bytes, spoken: Messages, scope: Scope
) -> None:
    alone = inspect(spoken[14][1], scope)
    assert "signature of SignedInfo" in of(alone, NOT_CHECKED)
    check = "session 1, message 15 AuthorizationReq: signature of SignedInfo"
    assert check in of(inspect(whole, scope), OK)


def test_a_capture_is_judged_at_its_own_time_unless_told_otherwise(
    whole: bytes, scope: Scope
) -> None:
    late = Scope(NOW + 10 * 365 * 86400, scope.anchors)
    assert of(inspect(whole, late), FAILED)
    now = Scope(late.at, scope.anchors, is_now=True)
    assert of(inspect(whole, now), FAILED) == []


@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
def test_both_orders_of_mac_and_encryption_are_read(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope, options: int
) -> None:
    data = over_tls(tmp_path / "c", world, spoken, options=options)
    assert names(inspect(data, scope)) == NAMES


@pytest.mark.parametrize(
    "suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
)
def test_other_suites_are_read_and_named(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope, suite: str
) -> None:
    report = inspect(over_tls(tmp_path / "c", world, spoken, suite=suite), scope)
    assert names(report) == NAMES
    assert of(report, FAILED) == ["session 1: TLS: a suite of ISO 15118-2"]


def test_tls_1_3_is_named_and_not_read(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope
) -> None:
    data = over_tls(tmp_path / "c", world, spoken, version=ssl.TLSVersion.TLSv1_3)
    report = inspect(data, scope)
    assert report.content["sessions"][0]["tls"]["version"] == "TLS 1.3"
    assert "session 1: TLS: version 1.2" in of(report, FAILED)


# -- keys ---------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path, world: World, spoken: Messages) -> tuple[bytes, bytes]:
    """A capture without its keys, and the keys."""
    data = over_tls(tmp_path / "with.pcapng", world, spoken)
    keys = (tmp_path / "with.pcapng.keys").read_bytes()
    frames = [record for record in records(BytesIO(data)) if isinstance(record, Frame)]
    return pcap(frames), keys


def test_without_a_key_the_session_is_told_up_to_its_encryption(
    sealed: tuple[bytes, bytes], scope: Scope
) -> None:
    report = inspect(sealed[0], scope)
    assert names(report) == []
    assert "no key" in detail(report, "session 1: every byte is there and readable")
    assert "session 1: TLS, station's chain: role CPO" in of(report, OK)


def test_the_keys_of_a_key_log_open_a_capture(sealed: tuple[bytes, bytes], scope: Scope) -> None:
    data, keys = sealed
    report = inspect(data, Scope(scope.at, scope.anchors, keylog=b"# a comment\n" + keys))
    assert names(report) == NAMES


def test_keys_that_travel_in_datagrams_open_a_capture(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope
) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        pair = TlsPair(capture, chain=station_chain(world))
        line = capture.keys.read_bytes().splitlines()[-1]
        capture.datagram((CAR[0], 49152), ("ff02::1", 49152), line)
        converse(pair, spoken)
    data = (tmp_path / "c").read_bytes()
    frames = [record for record in records(BytesIO(data)) if isinstance(record, Frame)]
    assert names(inspect(pcap(frames), scope)) == NAMES


def test_a_wrong_key_is_told_and_nothing_is_invented(
    sealed: tuple[bytes, bytes], scope: Scope
) -> None:
    data, keys = sealed
    wrong = keys[: keys.rindex(b" ")] + b" " + b"00" * 48
    report = inspect(data, Scope(scope.at, scope.anchors, keylog=wrong))
    assert names(report) == []
    assert "does not verify" in detail(report, "session 1: every byte is there and readable")


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"])
@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
def test_a_record_that_was_changed_ends_its_direction(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope, suite: str, options: int
) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        pair = TlsPair(capture, chain=station_chain(world), suite=suite, options=options)
        converse(pair, spoken[:4])
        before = (tmp_path / "c").stat().st_size
        converse(pair, spoken[4:])
    data = bytearray((tmp_path / "c").read_bytes())
    at = data.index(b"\x17\x03\x03", before) + 5 + 20  # of the car: ServiceDiscoveryReq
    data[at] ^= 1
    report = inspect(bytes(data), scope)
    assert NAMES[4] not in names(report)
    assert set(NAMES[1::2]) <= set(names(report))  # the station's messages are all there
    problem = detail(report, "session 1: every byte is there and readable")
    assert problem.startswith("the client: encrypted record 4 does not verify")


# -- files and packets of other programs ---------------------------------------------------------


MAC = bytes(12)
ETHERNET = MAC + b"\x86\xdd"


@pytest.mark.parametrize(
    "changes",
    [
        {"order": ">"},
        {"magic": 0xA1B23C4D},
        {"link": 1, "wrap": lambda packet: ETHERNET + packet + bytes(4)},  # and a trailer
        {"link": 1, "wrap": lambda packet: MAC + b"\x81\x00\x00\x05\x86\xdd" + packet},
        {"link": 113, "wrap": lambda packet: bytes(14) + b"\x86\xdd" + packet},
        {"link": 276, "wrap": lambda packet: b"\x86\xdd" + bytes(18) + packet},
        {"link": 0, "wrap": lambda packet: b"\x1e\x00\x00\x00" + packet},
        {"link": 229},
    ],
    ids=["big-endian", "nanoseconds", "ethernet", "vlan", "sll", "sll2", "loopback", "ipv6"],
)
def test_a_capture_of_another_program_is_read(
    frames: list[Frame], scope: Scope, changes: dict[str, Any]
) -> None:
    report = inspect(pcap(frames, **changes), scope)
    assert names(report) == NAMES
    assert report.content["sessions"][0]["began"].startswith("2026-09-21T14:13:20")


def test_ipv4_is_read(tmp_path: Path, spoken: Messages, scope: Scope) -> None:
    with Capture(tmp_path / "c") as capture:
        connection = capture.connection(("127.0.0.1", 49152), ("127.0.0.1", 51000))
        for by_car, data in spoken:
            connection.wire("in" if by_car else "out", data)
    report = inspect((tmp_path / "c").read_bytes(), scope)
    assert names(report) == NAMES
    assert report.content["sessions"][0]["car"] == "127.0.0.1:51000"


def test_a_pcapng_of_the_other_byte_order_is_read(frames: list[Frame], scope: Scope) -> None:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(">II", kind, 12 + len(body)) + body + struct.pack(">I", 12 + len(body))

    data = block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(1, struct.pack(">HHI", 1, 0, 0))
    data += block(1, struct.pack(">HHI", 101, 0, 0))
    data += block(0x0BAD, b"a block of another program")
    for frame in frames:
        time = frame.time // 1000
        size = len(frame.data)
        head = struct.pack(">IIIII", 1, time >> 32, time & 0xFFFFFFFF, size, size)
        data += block(6, head + frame.data)
    assert names(inspect(data, scope)) == NAMES


def test_reordered_and_repeated_segments_count_once(frames: list[Frame], scope: Scope) -> None:
    shuffled = list(frames)
    for at in range(4, len(shuffled) - 3, 2):
        shuffled[at], shuffled[at + 1] = shuffled[at + 1], shuffled[at]
    report = inspect(pcap([f for frame in shuffled for f in (frame, frame)]), scope)
    assert names(report) == NAMES
    check = "session 1: every byte is there and readable"
    assert check in of(report, OK)
    assert detail(report, check) != "0 segments were sent again"


def test_a_lost_segment_is_told_and_the_rest_is_read(frames: list[Frame], scope: Scope) -> None:
    largest = max(frames, key=lambda frame: len(frame.data))  # of the installation's response
    report = inspect(pcap([frame for frame in frames if frame is not largest]), scope)
    assert [name for name in NAMES if name not in names(report)] == ["CertificateInstallationRes"]
    problem = detail(report, "session 1: every byte is there and readable")
    assert "the capture has lost 1440 bytes" in problem
    missing = detail(report, "session 1: each request has its response")
    assert missing == "11 CertificateInstallationReq has none"


def test_a_capture_that_cuts_packets_says_so(frames: list[Frame], scope: Scope) -> None:
    cut = [Frame(frame.time, frame.link, frame.data[:200]) for frame in frames]
    report = inspect(pcap(cut), scope)
    problem = detail(report, "session 1: every byte is there and readable")
    assert "lost" in problem


def test_a_capture_that_begins_later_knows_the_car_by_its_requests(
    frames: list[Frame], scope: Scope
) -> None:
    report = inspect(pcap(frames[4:]), scope)  # the first one is the station's answer
    assert names(report) == NAMES[1:]
    (told,) = report.content["sessions"]
    assert told["car"] == "[fe80::2]:51000"
    assert "session 1: the capture has its beginning" in of(report, NOT_CHECKED)
    assert "session 1: each message is of the right end" in of(report, OK)
    assert "session 1: order of the requests" in of(report, OK)


def test_a_capture_that_begins_inside_a_message_is_read_from_the_next_one(
    frames: list[Frame], scope: Scope
) -> None:
    start = next(at for at, frame in enumerate(frames) if len(frame.data) == 1500)
    report = inspect(pcap(frames[start + 1 :]), scope)
    assert names(report) == NAMES[12:]
    problem = detail(report, "session 1: every byte is there and readable")
    assert "bytes that are no V2GTP" in problem


def test_ports_that_are_used_again_are_another_session(frames: list[Frame], scope: Scope) -> None:
    again = [Frame(frame.time + 10**12, frame.link, frame.data) for frame in frames]
    report = inspect(pcap(frames + again), scope)
    assert names(report, 0) == names(report, 1) == NAMES


def test_connections_of_other_protocols_are_counted(tmp_path: Path, scope: Scope) -> None:
    with Capture(tmp_path / "c") as capture:
        capture.connection(STATION, CAR).wire("in", b"GET / HTTP/1.1\r\n\r\n")
    report = inspect((tmp_path / "c").read_bytes(), scope)
    assert report.content["otherConnections"] == 1
    assert report.content["sessions"] == []
    assert of(report, NOT_CHECKED) == ["a session of ISO 15118 is in it"]


@pytest.mark.parametrize("size", [2, 10, 23, 30, 99, 1001])
def test_a_file_that_breaks_off_gives_what_was_whole(
    frames: list[Frame], scope: Scope, size: int
) -> None:
    data = pcap(frames)[:size]
    if size < 4:
        with pytest.raises(UnreadableError):
            inspect(data, scope)
    else:
        report = inspect(data, scope)
        assert "capture readable to its end" in of(report, FAILED)


# -- violations ---------------------------------------------------------------------------------


def envelope(name: str, body: dict[str, Any], session_id: bytes = bytes(8)) -> bytes:
    return v2gtp.encode(exi.encode(messages.envelope(session_id, name, body)))


def test_a_contract_without_tls_is_a_violation(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    report = inspect(plain(tmp_path / "c", spoken), scope)
    assert of(report, FAILED) == ["session 1: payment by contract over TLS only"]


def test_a_connection_that_breaks_the_word_of_sdp_is_a_violation(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        search(capture, sdp.TLS)
        connection = capture.connection(STATION, CAR)
        for by_car, data in spoken:
            connection.wire("in" if by_car else "out", data)
    report = inspect((tmp_path / "c").read_bytes(), scope)
    assert "session 1: the connection is as SDP has said" in of(report, FAILED)


def test_a_request_at_the_wrong_time_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    without_discovery = [*spoken[:4], *spoken[6:]]
    report = inspect(plain(tmp_path / "c", without_discovery), scope)
    what = detail(report, "session 1: order of the requests")
    assert what == "5 ServiceDetailReq after SessionSetupReq"


def test_a_message_of_another_session_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    stop = messages.session_stop_req()
    data = plain(tmp_path / "c", [*spoken[:16], (True, envelope("SessionStopReq", stop))])
    report = inspect(data, scope)
    what = detail(report, "session 1: one session, one SessionID")
    assert what.startswith("17 SessionStopReq: 0000000000000000 instead of ")


def test_a_late_response_and_a_silent_car_are_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    now = [NOW * 10**9]
    with Capture(tmp_path / "c", clock=lambda: now[0]) as capture:
        connection = capture.connection(STATION, CAR)
        for number, (by_car, data) in enumerate(spoken[:6], 1):
            now[0] += {4: 2_001, 5: 60_001}.get(number, 1) * 10**6
            connection.wire("in" if by_car else "out", data)
    report = inspect((tmp_path / "c").read_bytes(), scope)
    late = detail(report, "session 1: responses in time")
    assert late == "4 SessionSetupRes after 2.001 s of 2.000 s"
    assert (
        detail(report, "session 1: requests within 60 s") == "5 ServiceDiscoveryReq after 60.001 s"
    )
    assert "session 1: ends with SessionStop" in of(report, NOT_CHECKED)


def test_a_refusal_is_named(tmp_path: Path, spoken: Messages, scope: Scope) -> None:
    refusal = {"ResponseCode": "FAILED_SequenceError", "EVSEID": "ZZ00000"}
    spoken = [*spoken[:3], (False, envelope("SessionSetupRes", refusal))]
    report = inspect(plain(tmp_path / "c", spoken), scope)
    told = detail(report, "session 1: response codes")
    assert told.startswith("4 SessionSetupRes: FAILED_SequenceError (")


def test_a_response_code_of_another_message_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    wrong = {"ResponseCode": "OK_CertificateExpiresSoon", "EVSEID": "ZZ00000"}
    spoken = [*spoken[:3], (False, envelope("SessionSetupRes", wrong))]
    report = inspect(plain(tmp_path / "c", spoken), scope)
    told = detail(report, "session 1: each response code is one of its message")
    assert told == "4 SessionSetupRes: OK_CertificateExpiresSoon"


def test_a_station_that_says_ongoing_for_too_long_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    request = envelope("AuthorizationReq", {})
    waiting = {"ResponseCode": "OK", "EVSEProcessing": "Ongoing"}
    response = envelope("AuthorizationRes", waiting)
    now = [NOW * 10**9]
    with Capture(tmp_path / "c", clock=lambda: now[0]) as capture:
        connection = capture.connection(STATION, CAR)
        for _ in range(4):
            connection.wire("in", request)
            connection.wire("out", response)
            now[0] += 25 * 10**9
    report = inspect((tmp_path / "c").read_bytes(), scope)
    told = detail(report, "session 1: no response is Ongoing for too long")
    assert told == "8 AuthorizationRes, since 75.000 s"


def test_a_challenge_of_another_session_is_named(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope
) -> None:
    other = session(world)
    report = inspect(plain(tmp_path / "c", [*spoken[:14], *other[14:]]), scope)
    check = "session 1: AuthorizationReq has the station's challenge"
    assert check in of(report, FAILED)


def test_an_alert_is_named_with_its_sender(tmp_path: Path, scope: Scope) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        search(capture)
        pair = TlsPair(capture)
        pair.connection.wire("in", b"\x15\x03\x03\x00\x02\x02\x30")
    # An alert in the open after the handshake, as a forger would send it.
    report = inspect((tmp_path / "c").read_bytes(), scope)
    assert "does not verify" in detail(report, "session 1: every byte is there and readable")
    data = b"\x16\x03\x03\x00\x05\x01\x00\x00\x01\x00"
    with Capture(tmp_path / "d", clock=steady_clock(NOW)) as capture:
        search(capture)
        connection = capture.connection(STATION, CAR)
        connection.wire("in", data)
        connection.wire("out", b"\x15\x03\x03\x00\x02\x02\x28")
    report = inspect((tmp_path / "d").read_bytes(), scope)
    assert detail(report, "session 1: TLS: no alert") == "station: handshake_failure"


# -- other protocols ----------------------------------------------------------------------------

LATER = "not supported (yet)"


def test_messages_of_other_protocols_have_their_names(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    foreign = [
        (True, v2gtp.encode(b"\x80\x12\x34", 0x8002)),
        (True, v2gtp.encode(b"\x80\x12\x34", 0x8004)),
        (True, v2gtp.encode(b"\x80\x9a\x00\x11\xd0")),
        (True, v2gtp.encode(bytes.fromhex("8008040000000000000000080e2cfaa062"))),
    ]
    report = inspect(plain(tmp_path / "c", [*spoken[:2], *foreign]), scope)
    assert names(report)[2:] == [
        f"ISO 15118-20 (common messages), {LATER}",
        f"ISO 15118-20 (DC), {LATER}",
        f"DIN 70121, {LATER}",
        f"ISO 15118-20, {LATER}",
    ]


def test_the_offers_of_a_car_have_their_names(tmp_path: Path, scope: Scope) -> None:
    offers = [
        {
            "ProtocolNamespace": namespace,
            "VersionNumberMajor": 2,
            "VersionNumberMinor": 0,
            "SchemaID": number,
            "Priority": number,
        }
        for number, namespace in enumerate(
            (messages.NAMESPACE, "urn:din:70121:2012:MsgDef", "urn:iso:std:iso:15118:-20:DC"), 1
        )
    ]
    offer = exi.encode({"supportedAppProtocolReq": {"AppProtocol": offers}}, "sap")
    report = inspect(plain(tmp_path / "c", [(True, v2gtp.encode(offer))]), scope)
    (message,) = report.content["sessions"][0]["messages"]
    assert message["note"] == f"ISO 15118-2, DIN 70121 ({LATER}), ISO 15118-20 ({LATER})"


def test_a_frame_of_iso15118_20_has_its_name(scope: Scope) -> None:
    report = inspect(v2gtp.encode(b"\x80\x12", 0x8003), scope)
    assert report.kind == f"V2GTP, ISO 15118-20 (AC), {LATER}"
    assert report.ok


@pytest.mark.parametrize("form", [bytes, lambda it: it.hex().encode(), base64.b64encode])
@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("809a0011d020", "DIN 70121"),
        ("8008040000000000000000080e2cfaa062", "ISO 15118-20"),  # AuthorizationSetupReq
        ("8098042a55aa1f00000000080e2cfaa06200", "ISO 15118-20"),  # SessionStopRes
    ],
)
def test_a_document_of_another_protocol_has_its_name(
    start: str, name: str, form: Callable[[bytes], bytes], scope: Scope
) -> None:
    with pytest.raises(UnreadableError, match=f"^a message of {name}: not supported"):
        inspect(form(bytes.fromhex(start)), scope)


def test_a_broken_message_of_iso15118_2_is_not_called_one_of_another_protocol(
    scope: Scope,
) -> None:
    body = messages.session_setup_req(bytes(6))
    for length in range(9):
        message = exi.encode(messages.envelope(bytes(length), "SessionSetupReq", body))
        with pytest.raises(UnreadableError, match=r"^begins like EXI, but"):
            inspect(message[:-3], scope)


def test_the_handshake_without_a_frame_has_its_name(spoken: Messages, scope: Scope) -> None:
    names = [inspect(v2gtp_[8:], scope).kind for _, v2gtp_ in spoken[:2]]
    assert names == ["supportedAppProtocolReq", "supportedAppProtocolRes"]


# -- what a person sees -------------------------------------------------------------------------


def test_the_story_has_a_line_for_each_message(whole: bytes, scope: Scope) -> None:
    console = Console(file=(text := StringIO()), width=140)
    show(console, "c.pcapng", inspect(whole, scope))
    for name in NAMES:
        assert name in text.getvalue()
    assert "OCSP: not asked for" in text.getvalue()


def test_the_picture_is_whole_and_needs_no_other_file(whole: bytes, scope: Scope) -> None:
    picture = draw("c.pcapng", inspect(whole, scope).content)
    root = ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(NAMES) <= set(texts)
    assert "prefers-color-scheme: dark" in picture
    assert picture.count("http") == 1  # the namespace: nothing is loaded


def test_words_of_a_peer_steer_no_picture(tmp_path: Path, scope: Scope) -> None:
    evil = {"ResponseCode": "OK_NewSessionEstablished", "EVSEID": "</text><script>&\x1b[2J"}
    data = plain(tmp_path / "c", [(False, envelope("SessionSetupRes", evil))])
    picture = draw("<&>", inspect(data, scope).content)
    root = ElementTree.fromstring(picture)
    assert not [element for element in root.iter() if "script" in element.tag]
    assert "\x1b" not in picture


# -- the command --------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["inspect", *arguments])
    return int(end.value.code or 0), capsys.readouterr().out


def test_the_command_reads_the_keys_beside_a_capture_and_draws_it(
    tmp_path: Path, sealed: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pcap").write_bytes(sealed[0])
    (tmp_path / "a.pcap.keys").write_bytes(sealed[1])
    picture = tmp_path / "a.svg"
    status, out = run(capsys, str(tmp_path / "a.pcap"), "--json", "--svg", str(picture))
    document = json.loads(out)
    assert (status, document["kind"]) == (0, "capture")
    (told,) = document["content"]["sessions"]
    assert [message["name"] for message in told["messages"]] == NAMES
    assert "SessionStopRes" in picture.read_text()


def test_the_command_reads_a_key_log(
    tmp_path: Path, sealed: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.pcap").write_bytes(sealed[0])
    (tmp_path / "keys").write_bytes(sealed[1])
    assert run(capsys, str(tmp_path / "b.pcap"))[0] == 1
    assert run(capsys, str(tmp_path / "b.pcap"), "--keylog", str(tmp_path / "keys"))[0] == 0


def test_a_capture_without_tls_is_made_for_tools_that_have_no_keys(
    tmp_path: Path, sealed: tuple[bytes, bytes], spoken: Messages, scope: Scope,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source, out = tmp_path / "a.pcap", tmp_path / "plain.pcapng"
    source.write_bytes(sealed[0])
    (tmp_path / "a.pcap.keys").write_bytes(sealed[1])
    assert run(capsys, str(source), "--plain", str(out))[0] == 0
    before = inspect(sealed[0], replace(scope, keylog=sealed[1])).content["sessions"][0]
    report = inspect(out.read_bytes(), scope)
    (after,) = report.content["sessions"]
    assert names(report) == NAMES
    assert after["messages"] == [
        {**message, "at": moved["at"]}
        for message, moved in zip(before["messages"], after["messages"], strict=True)
    ]
    assert [after[end] for end in ("car", "station")] == [
        before[end] for end in ("car", "station")
    ]
    assert len(after["sdp"]) == 2
    assert not (tmp_path / "plain.pcapng.keys").exists()
    assert b"".join(data for _, data in spoken[:1]) in out.read_bytes()


@pytest.mark.parametrize("option", ["--svg", "--plain"])
def test_a_picture_of_no_capture_is_refused(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frame").write_bytes(v2gtp.encode(b"\x80\x12", 0x8003))
    assert run(capsys, str(tmp_path / "frame"), option, str(tmp_path / "x"))[0] == 2
    assert not (tmp_path / "x").exists()


# -- limits -------------------------------------------------------------------------------------


def segment(number: int, sequence: int, data: bytes, flags: int = packets.ACK) -> Frame:
    """A packet of the car's connection from port 10,000 + number."""
    car = (CAR_ADDRESS, 10_000 + number)
    station = (CAR_ADDRESS, 49_152)
    return Frame(NOW * 10**9, 101, packets.tcp(car, station, sequence, 0, flags, data))


CAR_ADDRESS = ipaddress.ip_address("fe80::2").packed


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF),  # pcap
        struct.pack("<II", 6, 0xFFFFFFFC),  # pcapng
        struct.pack("<II", 6, 8),
        struct.pack("<II", 6, 14),
    ],
)
def test_a_length_in_a_file_is_not_believed(
    tmp_path: Path, header: bytes, frames: list[Frame], scope: Scope
) -> None:
    data = pcap(frames)
    if len(header) == 8:
        data = plain(tmp_path / "c", [(True, b"x")])
    report = inspect(data + header + bytes(100), scope)
    why = detail(report, "capture readable to its end")
    assert re.search(r"a (packet|block) of \d+ bytes$", why)


@pytest.mark.parametrize(
    "change",
    [
        lambda packet: packet[:30],  # inside the addresses
        lambda packet: packet[:50],  # inside the header of TCP
        lambda packet: packet[:52] + b"\x10" + packet[53:],  # a header of 4 bytes
        lambda packet: packet[:6] + b"\x2c" + packet[7:40] + b"\x06\x00\x01\x00" + packet[40:],
        lambda packet: b"\x44" + bytes(8) + b"\x06" + packet[10:],  # IPv4 with 16 bytes
        lambda packet: b"\x95" + packet[1:],
    ],
    ids=["addresses", "cut", "offset", "fragment", "ipv4", "version"],
)
def test_a_packet_with_a_wrong_header_is_left_out(
    change: Callable[[bytes], bytes],
) -> None:
    good = segment(0, 1, b"\x01\xfe\x80\x01\x00\x00\x00\x00")
    assert packet(good) is not None
    assert packet(good._replace(data=change(good.data))) is None


def test_a_length_of_v2gtp_is_not_believed(tmp_path: Path, spoken: Messages, scope: Scope) -> None:
    evil = (True, b"\x01\xfe\x80\x01\xff\xff\xff\xff")
    report = inspect(plain(tmp_path / "c", [*spoken[:2], evil, *spoken[2:4]]), scope)
    assert names(report) == NAMES[:4]
    problem = detail(report, "session 1: every byte is there and readable")
    assert problem == "the client: 8 bytes that are no V2GTP"


def test_segments_that_wait_for_a_lost_one_are_not_kept_for_ever() -> None:
    connections = streams.Connections()
    for number in range(1000):
        frame = segment(0, 100 + 2 * number, b"x")  # each second byte is lost
        layer = packet(frame)
        assert isinstance(layer, Segment)
        connections.feed(layer)
    (connection,) = connections._all
    assert len(connection._directions[True].early) <= streams._EARLY
    (connection,) = connections.finished()
    assert connection.lost == 999


def test_connections_above_the_limit_are_counted(
    monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    monkeypatch.setattr(streams, "CONNECTIONS", 5)
    report = inspect(pcap([segment(number, 1, b"x") for number in range(9)]), scope)
    assert report.content["otherConnections"] == 5
    assert detail(report, "capture readable to its end") == "4 segments of further connections"


def test_messages_above_the_limit_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoken: Messages, scope: Scope
) -> None:
    monkeypatch.setattr(story_of_capture, "MESSAGES", 6)
    report = inspect(plain(tmp_path / "c", spoken), scope)
    assert names(report) == NAMES[:6]
    assert report.content["sessions"][0]["furtherMessages"] == 12
    monkeypatch.setattr(conversation, "SPOKEN", 2)
    report = inspect(plain(tmp_path / "d", spoken), scope)
    assert len(names(report)) == 4
    problem = detail(report, "session 1: every byte is there and readable")
    assert "messages after the first 2" in problem


def test_a_handshake_message_without_an_end_is_not_collected(tmp_path: Path, scope: Scope) -> None:
    record = b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(0x4000 - 4)
    begin = b"\x16\x03\x03\x00\x05\x01\x00\x00\x01\x00"
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        search(capture)
        connection = capture.connection(STATION, CAR)
        connection.wire("in", begin)
        for _ in range(20):
            connection.wire("out", record)
    report = inspect((tmp_path / "c").read_bytes(), scope)
    problem = detail(report, "session 1: every byte is there and readable")
    assert "a handshake message without an end" in problem


def test_a_capture_above_its_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, frames: list[Frame], scope: Scope
) -> None:
    data = pcap(frames)
    monkeypatch.setattr(inspection, "CAPTURE_LIMIT", len(data) - 1)
    with pytest.raises(UnreadableError, match="editcap"):
        inspect(data, scope)


def test_a_pair_that_repeats_for_long_is_shown_by_its_ends(scope: Scope) -> None:
    def message(number: int, code: str = "OK") -> dict[str, Any]:
        name = "CurrentDemandRes" if number % 2 else "CurrentDemandReq"
        return {"name": name, "at": float(number), "responseCode": code}

    loop = [message(number, "FAILED" if number == 51 else "OK") for number in range(100)]
    rows = folded([{"name": "PowerDeliveryRes"}, *loop, {"name": "PowerDeliveryReq"}])
    assert [row.get("at", row.get("folded")) for row in rows] == [None, 0, 1, 51, 95, 98, 99, None]


# -- the document -------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[2] / "host/docs/captures.md"


def test_options_in_the_document_are_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    _, inspects = run(capsys, "--help")
    with pytest.raises(SystemExit):
        main(["station", "--help"])
    serves = capsys.readouterr().out
    named = set(re.findall(r"(?<!\S)`?(--[a-z]+)", DOCUMENT.read_text()))
    assert {"--keylog", "--svg", "--plain", "--pcap"} <= named
    assert [option for option in named if option not in inspects + serves] == []


def test_the_program_in_the_document_writes_a_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    offer = exi.encode({"supportedAppProtocolReq": messages.supported_app_protocol_req()}, "sap")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        peer = socket.create_connection(server.getsockname()[:2])
        sock, _ = server.accept()
        with peer, sock:
            words = {
                "sock": sock,
                "context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
                "received": v2gtp.encode(offer),
                "sent": v2gtp.encode(offer),
            }
            exec(program, words)
    report = inspect((tmp_path / "session.pcapng").read_bytes(), scope)
    (told,) = report.content["sessions"]
    assert (len(told["messages"]), told["end"]) == (2, "closed by the car")
