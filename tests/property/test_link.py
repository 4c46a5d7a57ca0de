"""The link under any noise and any bytes, by hypothesis, on a simulated clock."""

import contextlib
import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evcc.link import frame, v2gtp
from evcc.link.mux import LIMITS, Mux

sys.path.append(str(Path(__file__).parents[1] / "both"))
sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from noise import Chance, Line, spoil

MESSAGES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(sorted(LIMITS)), st.binary(max_size=400)),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(
    MESSAGES,
    st.integers(0, 1000),
    st.integers(0, 20),
    st.sampled_from([3, 11, 200]),
    st.sampled_from([0, 0, 30, 400]),
)
def test_whole_in_order_exactly_once(messages, seed, per_thousand, rate, delay_ms):
    line = Line(Mux(1), Mux(2), seed, per_thousand, rate, delay_ms)
    for end, channel, data in messages:
        line.ends[end].send(channel, data)
    line.run(limit_ms=120_000)
    for end in (0, 1):
        for channel in LIMITS:
            sent = [data for e, c, data in messages if (e, c) == (end, channel)]
            assert [data for c, data in line.got[1 - end] if c == channel] == sent


def test_restarts_with_delay_and_noise_double_and_reorder_nothing(some):
    for seed in some(range(60), 4):
        chance = Chance(seed)
        noise = (0, 5, 20, 40)[seed % 4]
        delay_ms = (0, 20, 150, 700)[chance.below(4)]
        line = Line(Mux(1), Mux(2), seed, noise, delay_ms=delay_ms)
        sent = [[], []]
        for life in range(3, 9):
            restarted = chance.below(2)
            line.ends[restarted] = Mux(life)
            line.ends[restarted].send(0, b"first of life %d" % life)
            sent[restarted].append(b"first of life %d" % life)
            for number in range(6):
                end = chance.below(2)
                message = b"%d %d " % (life, number) + chance.bytes(chance.below(700))
                line.ends[end].send(0, message)
                sent[end].append(message)
            for _ in range(chance.below(4000)):
                line.tick()
        line.run(600_000)
        for end in (0, 1):
            received = [sent[end].index(data) for _, data in line.got[1 - end]]
            assert received == sorted(set(received)), seed
        last = sent[restarted].index(b"first of life 8")
        received = [data for _, data in line.got[1 - restarted]]
        assert received[-len(sent[restarted][last:]) :] == sent[restarted][last:], seed


def test_delay_with_noise_loses_doubles_and_reorders_nothing(some):
    """By milliseconds there and back, and bytes spoiled in a thousand: as many bytes each way as
    pass within minutes."""
    points = [
        (delay_ms, noise, seed)
        for seed in range(4)
        for delay_ms in (100, 300, 1000, 3000)
        for noise in (5, 10, 30, 50)
    ]
    for delay_ms, noise, seed in some(points, 5):
        line = Line(Mux(1), Mux(2), seed, noise, delay_ms=delay_ms // 2)
        chance, sent = Chance(seed), ([], [])
        for number in range(3000 // noise // (1 + delay_ms // 1000) // 20 + 1):
            for end in (0, 1):
                message = b"%d " % number + chance.bytes(chance.below(80))
                line.ends[end].send(chance.below(2), message)
                sent[end].append(message)
        line.run(1_200_000)
        for end in (0, 1):
            received = [data for _, data in line.got[1 - end]]
            assert sorted(received) == sorted(sent[end]), (delay_ms, noise, seed)
            for channel in (0, 1):
                ordered = [data for c, data in line.got[1 - end] if c == channel]
                numbers = [sent[end].index(data) for data in ordered]
                assert numbers == sorted(numbers), (delay_ms, noise, seed)


@given(st.binary(min_size=1, max_size=700), st.integers(0, 2**32 - 1))
def test_every_body_survives_framing(body, seed):
    (raw,) = frame.FrameReader(len(body)).feed(frame.encode(body, seed))
    assert frame.unseal(raw, seed) == body


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_are_no_message_and_raise_nothing(chunks):
    mux = Mux(7)
    for now, chunk in enumerate(chunks):
        assert mux.feed(chunk, now) == []
        mux.poll(now)


@given(st.lists(st.binary(max_size=100), max_size=5), st.lists(st.integers(1, 50), max_size=40))
def test_v2gtp_is_the_same_in_any_pieces(payloads, cuts):
    stream = b"".join(v2gtp.encode(payload) for payload in payloads)
    reader, received = v2gtp.PayloadReader(), []
    for cut in [*cuts, len(stream)]:
        received += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert received == payloads


@given(st.lists(st.binary(max_size=60)))
def test_v2gtp_refuses_bytes_with_one_error(chunks):
    reader = v2gtp.PayloadReader(limit=100)
    with contextlib.suppress(v2gtp.V2gtpError):
        for chunk in chunks:
            assert all(len(payload) <= 100 for payload in reader.feed(chunk))


@pytest.mark.parametrize("seed", range(4))
def test_a_real_response_passes_at_one_byte_in_a_hundred(seed):
    line = Line(Mux(1), Mux(2), seed, per_thousand=10)
    line.ends[0].send(1, bytes(4424))
    took = line.run()
    assert line.got[1] == [(1, bytes(4424))]
    assert took < 5000  # the station's timer for CertificateInstallation, at 115200 bits a second


@pytest.mark.parametrize("name", ["frame", "mux", "v2gtp", "telematics"])
def test_the_fuzz_target_holds_for_a_while(name):
    fuzz = importlib.import_module(name + "_target")
    chance = Chance(len(name))
    for seed in fuzz.seeds():
        fuzz.target(seed)
        for per_thousand in (10, 50, 200) * 10:
            fuzz.target(spoil(seed, chance, per_thousand))
