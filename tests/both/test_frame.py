"""COBS frames: any body goes through, anything damaged is dropped, the next zero starts afresh."""

from evcc.link import frame
from noise import Chance, spoil


def _through(body, seed=0):
    raws = frame.FrameReader(len(body)).feed(frame.encode(body, seed))
    assert len(raws) == 1
    return frame.unseal(raws[0], seed)


def test_bodies_of_every_shape_come_back():
    bodies = [b"\x00", b"\x00\x00", b"\x01", bytes(range(256)), b"\x00" * 300, b"\xff" * 300]
    for n in (249, 250, 251, 253, 254, 255, 504, 508, 509):
        bodies.append(b"\x07" * n)
        bodies.append(b"\x07" * n + b"\x00")
        bodies.append(b"\x00" + b"\x07" * n)
    chance = Chance(5)
    bodies += [chance.bytes(n) for n in range(1, 40)]
    for body in bodies:
        assert 0 not in frame.encode(body)[:-1]
        assert _through(body) == body


def test_an_empty_frame_is_ignored():
    for seed in (0, 7):
        (raw,) = frame.FrameReader(9).feed(frame.encode(b"", seed))
        assert frame.unseal(raw, seed) is None


def test_cobs_is_as_published():
    # Cheshire and Baker, 1999: 45 00 00 2C 4C 79 is 02 45 01 04 2C 4C 79. The CRC-32 follows.
    encoded = frame.encode(bytes.fromhex("4500002c4c79"))
    assert encoded[:3].hex() == "024501"
    assert encoded[3] == 4 + 4
    assert encoded[4:7].hex() == "2c4c79"


def test_every_changed_byte_is_noticed():
    body = b"contract\x00certificate"
    encoded = frame.encode(body)
    for i in range(len(encoded) - 1):
        for change in (1, 0x80, encoded[i]):
            damaged = bytearray(encoded)
            damaged[i] ^= change
            for raw in frame.FrameReader(64).feed(bytes(damaged)):
                assert frame.unseal(raw) is None


def test_a_frame_of_another_connection_is_as_good_as_damaged():
    raw = frame.FrameReader(64).feed(frame.encode(b"hello", 1))[0]
    assert frame.unseal(raw, 1) == b"hello"
    assert frame.unseal(raw, 2) is None


def test_truncated_and_concatenated_frames_resync():
    reader = frame.FrameReader(64)
    encoded = frame.encode(b"whole")
    line = (
        b"\x11REPL noise"
        + encoded[:4]
        + b"\x00"
        + encoded
        + encoded[:-1]
        + encoded
        + b"\x00"
        + encoded
    )
    bodies = [frame.unseal(raw) for raw in reader.feed(line)]
    assert [body for body in bodies if body] == [b"whole", b"whole"]


def test_a_frame_over_the_limit_is_never_collected():
    reader = frame.FrameReader(64)
    for _ in range(200):
        assert reader.feed(b"\x41" * 100) == []
        assert len(reader._buffer) <= 64 + 4 + 1
    encoded = frame.encode(b"next")
    assert [frame.unseal(raw) for raw in reader.feed(b"\x00" + encoded)] == [b"next"]
    assert reader.dropped == 1


def test_bytes_one_by_one_are_the_same():
    reader = frame.FrameReader(64)
    raws = []
    for byte in frame.encode(b"a\x00b") + frame.encode(b"c"):
        raws += reader.feed(bytes([byte]))
    assert [frame.unseal(raw) for raw in raws] == [b"a\x00b", b"c"]


def test_noise_of_any_kind_raises_nothing():
    chance = Chance(9)
    reader = frame.FrameReader(64)
    for _ in range(200):
        line = spoil(frame.encode(chance.bytes(1 + chance.below(60))), chance, 50)
        for raw in reader.feed(line + chance.bytes(chance.below(8))):
            frame.unseal(raw)
