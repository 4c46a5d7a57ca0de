"""A capture that the program writes: whole packets, the keys before them, and no word of a session
lost because of it."""

import os
import stat
import struct
from pathlib import Path

import pytest

from evcc.network import sdp
from evcc.ports.trace import Trace
from plugvault.capture import Capture, packets
from plugvault.capture.trace import convert
from plugvault.capture.writer import KEY_ROOM

CAR, STATION = ("fe80::2%car0", 51000, 0, 7), ("fe80::1%car0", 49152, 0, 7)
KEY = b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48


def blocks(path: Path) -> list[tuple[int, bytes]]:
    """(type, body) of each block; both lengths of a block agree."""
    data, found = path.read_bytes(), []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def segments(path: Path) -> list[tuple[int, int, int, int, bytes]]:
    """(source port, sequence, acknowledged, flags, data) of each TCP packet, checksums checked."""
    found = []
    for kind, body in blocks(path):
        if kind == 6:
            size = struct.unpack_from("<I", body, 12)[0]
            packet = body[20 : 20 + size]
            segment = packet[40:]
            pseudo = packet[8:40] + struct.pack(">II", len(segment), packet[6])
            assert packets.checksum(pseudo + segment) == 0
            if packet[6] == packets.TCP:
                port, _, sequence, acknowledged, _, flags = struct.unpack_from(">HHIIBB", segment)
                found.append((port, sequence, acknowledged, flags, segment[20:]))
    return found


def test_a_connection_has_its_bytes_in_order_between_its_start_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with Capture(path) as capture:
        connection = capture.connection(CAR, STATION)
        connection.wire("out", b"request")
        connection.wire("in", bytes(3000))
        connection.close("out")
    found = segments(path)
    flags = packets.SYN, packets.SYN | packets.ACK, packets.ACK
    assert tuple(f for _, _, _, f, _ in found[:3]) == flags
    assert [(port, data) for port, _, _, _, data in found if data] == [
        (51000, b"request"),
        (49152, bytes(1440)),
        (49152, bytes(1440)),
        (49152, bytes(120)),
    ]
    following: dict[int, int] = {}
    for port, sequence, acknowledged, flag, data in found:
        assert following.setdefault(port, sequence) == sequence
        following[port] += len(data) + bool(flag & (packets.SYN | packets.FIN))
        other = 49152 if port == 51000 else 51000
        assert acknowledged == following.get(other, 0)


def test_addresses_of_two_families_are_written_as_ipv6(tmp_path: Path) -> None:
    with Capture(tmp_path / "c.pcapng") as capture:
        capture.datagram(("127.0.0.1", 1), STATION, b"x")
        capture.connection(("127.0.0.1", 51000), STATION).wire("out", b"request")
    found = segments(tmp_path / "c.pcapng")
    assert [data for _, _, _, _, data in found if data] == [b"request"]


def test_the_end_that_sends_first_has_opened_the_connection(tmp_path: Path) -> None:
    with Capture(tmp_path / "c.pcapng") as capture:
        capture.connection(STATION, CAR).wire("in", b"request")
    port, _, _, flags, _ = segments(tmp_path / "c.pcapng")[0]
    assert (port, flags) == (51000, packets.SYN)


def test_keys_stand_before_the_first_packet(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with Capture(path) as capture:
        connection = capture.connection(CAR, STATION)
        connection.wire("out", b"hello")
        capture.keys.write_bytes(KEY + b"\n# no key\n" + KEY[:50])  # as `ssl` does it
        connection.wire("out", b"more")
    kinds = [kind for kind, _ in blocks(path)]
    assert kinds.index(10) < kinds.index(6)
    (secrets,) = [body for kind, body in blocks(path) if kind == 10]
    assert struct.unpack_from("<II", secrets) == (0x544C534B, KEY_ROOM)
    lines = [line for line in secrets[8:].split(b"\n") if line.strip(b"#")]
    assert lines == [KEY]


def test_keys_beyond_their_room_follow_in_blocks_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    many = KEY_ROOM // (len(KEY) + 1) + 3
    with Capture(path) as capture:
        for _ in range(many):
            capture.keylog(KEY.decode())
    secrets = b"".join(body[8:] for kind, body in blocks(path) if kind == 10)
    assert secrets.count(KEY) == many


def test_only_their_owner_reads_a_capture_and_its_keys(tmp_path: Path) -> None:
    (tmp_path / "c.pcapng").write_text("older")
    (tmp_path / "c.pcapng").chmod(0o644)
    with Capture(tmp_path / "c.pcapng") as capture:
        for path in (capture.path, capture.keys):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_ends_the_capture_and_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room = tmp_path / "c.pcapng", 100_000
    pwrite = os.pwrite

    def limited(file: int, data: bytes, at: int) -> int:
        if at >= room:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[: room - at], at)

    with Capture(path) as capture:
        monkeypatch.setattr(os, "pwrite", limited)
        connection = capture.connection(CAR, STATION)
        for _ in range(50):
            connection.wire("out", bytes(1000))
        connection.close()
        capture.datagram(CAR, STATION, b"more")
        capture.keylog(KEY.decode())
    assert capture.ended == f"No space left on device, after {capture.packets} packets"
    assert len([kind for kind, _ in blocks(path) if kind == 6]) == capture.packets > 3


def test_a_capture_ends_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with Capture(path, limit=KEY_ROOM + 2000) as capture:
        connection = capture.connection(CAR, STATION)
        for _ in range(50):
            connection.wire("out", bytes(1000))
    assert "limit" in capture.ended
    assert path.stat().st_size <= KEY_ROOM + 2000
    blocks(path)


def test_a_capture_that_cannot_begin_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Capture(tmp_path / "absent/c.pcapng")


@pytest.mark.parametrize("first", ["in", "out"])
def test_the_end_that_closes_first_is_in_the_capture(tmp_path: Path, first: str) -> None:
    with Capture(tmp_path / "c.pcapng") as capture:
        connection = capture.connection(STATION, CAR)
        connection.wire("in", b"request")
        connection.wire(first, b"")
        connection.close()
    ends = [
        port for port, _, _, flags, _ in segments(tmp_path / "c.pcapng") if flags & packets.FIN
    ]
    assert ends[0] == {"in": 51000, "out": 49152}[first]


def test_the_trace_of_a_module_becomes_a_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", lambda mask: mask)  # of the module's process, not of this one
    trace = Trace(str(tmp_path / "trace"))
    trace.datagram(True, sdp.request(sdp.TLS))
    trace.datagram(False, sdp.response(bytes.fromhex("fe80") + bytes(13) + b"1", 50000, sdp.TLS))
    trace.ends("fe80::31%car0", 50000)
    trace.keys(KEY.decode())
    trace.wire(True, b"request")
    trace.wire(False, b"response")
    with (tmp_path / "trace").open("a") as lines:
        lines.write(
            'no JSON\n{"at": 1e400, "kind": "wire"}\n{"at": 1, "kind": "wire", "out": true}\n'
        )
        lines.write('{"at": 1, "kind": "wi')
    assert convert(tmp_path / "trace", tmp_path / "c.pcapng", "fe80::2") == ""
    found = segments(tmp_path / "c.pcapng")
    assert [data for _, _, _, _, data in found if data] == [b"request", b"response"]
    assert len([kind for kind, _ in blocks(tmp_path / "c.pcapng") if kind == 6]) == len(found) + 2
    assert KEY in (tmp_path / "c.pcapng").read_bytes()
