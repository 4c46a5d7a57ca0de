"""`plugvault inspect` reads the captures of other programs, and believes no length in them."""

import ipaddress
import re
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from captured import (
    CAR,
    STATION,
    session,
    steady_clock,
)
from evcc import x509
from inspected_captures import NAMES, Messages, detail, names, of, pcap, plain, search
from plugvault import inspection
from plugvault.capture import Capture, packets, streams
from plugvault.capture.files import Frame, records
from plugvault.capture.layers import Segment, packet
from plugvault.inspection import capture as story_of_capture
from plugvault.inspection import conversation, inspect
from plugvault.inspection.report import FAILED, NOT_CHECKED, OK, Scope, UnreadableError
from plugvault.inspection.story import folded
from world import NOW, World


@pytest.fixture(scope="module")
def spoken(world: World) -> Messages:
    return session(world)


@pytest.fixture(scope="module")
def scope(world: World) -> Scope:
    return Scope(NOW, tuple(x509.parse(der) for _, der in world.anchors))


@pytest.fixture
def frames(tmp_path: Path, spoken: Messages) -> list[Frame]:
    """The packets of a session without TLS."""
    data = plain(tmp_path / "frames.pcapng", spoken)
    return [record for record in records(BytesIO(data)) if isinstance(record, Frame)]


# -- files and packets of other programs ------------------------------------------------------


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


# -- limits -----------------------------------------------------------------------------------


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
