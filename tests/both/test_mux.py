"""The link's channels: whole messages, in order, exactly once, over any line."""

from evcc.link import frame
from evcc.link.mux import (
    CONTROL,
    EACH,
    LIMITS,
    LOG,
    QUEUES,
    SESSION,
    TELEMATICS,
    LinkError,
    Mux,
)
from helpers import raises
from noise import Chance, Line


def _met():
    """Two ends that know each other and have nothing under way."""
    a, b = Mux(1), Mux(2)
    for _ in range(3):
        b.feed(a.poll(0), 0)
        a.feed(b.poll(0), 0)
    return a, b


def test_4100_byte_response_accepted():
    line = Line(Mux(1), Mux(2))
    response = Chance(1).bytes(4416)
    line.ends[0].send(SESSION, response)
    took = line.run()
    assert line.got[1] == [(SESSION, response)]
    assert took < 600  # 115200 bits a second are 384 ms for the bare bytes


def test_every_channel_keeps_its_order_and_none_waits_for_a_long_one():
    line = Line(Mux(1), Mux(2))
    long = Chance(2).bytes(4000)
    line.ends[0].send(TELEMATICS, long)
    for i in range(5):
        line.ends[0].send(CONTROL, bytes([i]))
    line.ends[0].send(LOG, b"")
    line.run()
    received = line.got[1]
    assert [data for channel, data in received if channel == CONTROL] == [
        bytes([i]) for i in range(5)
    ]
    assert received[-1] == (TELEMATICS, long)
    assert (LOG, b"") in received
    assert len(received) == 7


def test_one_byte_in_a_hundred_lost_costs_time_and_never_a_message():
    for seed in range(3):
        line = Line(Mux(1), Mux(2), seed, per_thousand=10)
        chance = Chance(seed + 50)
        sent = [[], []]
        for _ in range(12):
            end = chance.below(2)
            message = (chance.below(3), chance.bytes(chance.below(500)))
            line.ends[end].send(message[0], message[1])
            sent[end].append(message)
        line.run()
        for end in (0, 1):
            for channel in range(3):
                expected = [m for m in sent[end] if m[0] == channel]
                assert [m for m in line.got[1 - end] if m[0] == channel] == expected
        assert line.ends[0].resent + line.ends[1].resent > 0


def test_numbers_go_round_in_noise_and_nothing_comes_twice():
    roomy = {SESSION: 32000}
    line = Line(Mux(1, queues=roomy), Mux(2), 7, per_thousand=6, rate=200)
    messages = [(SESSION, Chance(i).bytes(2000 + i)) for i in range(14)]
    for channel, data in messages:
        line.ends[0].send(channel, data)
    line.run()
    assert line.got[1] == messages


def test_a_restarted_peer_gets_no_message_for_its_predecessor():
    line = Line(Mux(1), Mux(2))
    line.ends[0].send(CONTROL, b"first")
    line.run()
    line.ends[0].send(SESSION, bytes(3000))
    for _ in range(60):
        line.tick()
    line.ends[1] = Mux(3)
    line.got[1] = []
    before = line.ends[0].generation
    for _ in range(300):
        line.tick()
    assert line.ends[0].generation == before + 1
    line.ends[0].send(CONTROL, b"second")
    line.ends[1].send(CONTROL, b"third")
    line.run()
    assert line.got[1] == [(CONTROL, b"second")]
    assert line.got[0][-1] == (CONTROL, b"third")


def test_restarts_in_noise_never_mix_two_connections():
    line = Line(Mux(1), Mux(2), 4, per_thousand=10)
    for life in range(3, 9):
        line.ends[life % 2] = Mux(life)
        line.got = [[], []]
        for end in (0, 1):
            line.ends[end].send(CONTROL, bytes([life, end]))
        for _ in range(700):
            line.tick()
        for end in (0, 1):
            for _, data in line.got[end]:
                assert data == bytes([life, 1 - end])
        # The end that stayed may have dropped its message with its old peer; the new one's came.
        assert line.got[1 - life % 2] == [(CONTROL, bytes([life, life % 2]))]


def test_a_message_announced_longer_than_the_limit_is_refused_before_it_is_collected():
    roomy = dict(LIMITS)
    roomy[CONTROL] = 1000000
    line = Line(Mux(1, roomy, roomy), Mux(2), rate=1000)
    line.ends[0].send(CONTROL, bytes(20000))
    line.ends[0].send(LOG, b"still here")
    for _ in range(40):
        line.tick()
        assert line.ends[1]._parts.get(CONTROL) is None
    line.run()
    assert line.got[1] == [(LOG, b"still here")]
    assert line.ends[1].refused == 1


def test_a_message_without_memory_is_refused_and_the_line_continues():
    a, b = _met()

    class Full(dict):
        def __setitem__(self, channel, part):
            raise MemoryError

    a.send(TELEMATICS, bytes(500))
    a.send(CONTROL, b"after")
    b._parts = Full()
    heard = []
    for now in range(100):
        heard += b.feed(a.poll(now), now)
        a.feed(b.poll(now), now)
        if now == 1:
            b._parts = {}
            a.send(CONTROL, b"later")
    assert heard == [(CONTROL, b"later")]
    assert b.refused == 2
    assert a.idle()


def test_unknown_channels_and_long_messages_are_refused_at_once():
    mux = Mux(1)
    raises(LinkError, "channel", mux.send, 9, b"")
    raises(LinkError, "too-long", mux.send, CONTROL, bytes(LIMITS[CONTROL] + 1))
    assert mux.idle()


def test_the_queue_of_each_channel_is_bounded_alone():
    for full in LIMITS:
        mux = Mux(1)
        for size in (0, 1, 300, LIMITS[full]):
            while size <= mux.room(full):
                mux.send(full, bytes(size))
            raises(LinkError, "full", mux.send, full, bytes(size))
        waiting = mux._queues[full]
        assert sum([len(message) for message in waiting]) <= QUEUES[full]
        assert len(waiting) <= QUEUES[full] // EACH
        for other_channel in LIMITS:
            if other_channel != full:
                mux.send(other_channel, bytes(LIMITS[other_channel]))


def test_a_channel_has_room_again_when_the_peer_has_taken_something():
    a, b = _met()
    while a.room(LOG) >= 0:
        a.send(LOG, bytes(min(a.room(LOG), LIMITS[LOG])))
    raises(LinkError, "full", a.send, LOG, b"")
    heard = []
    for now in range(100):
        heard += b.feed(a.poll(now), now)
        a.feed(b.poll(now), now)
    a.send(LOG, b"again")
    heard += b.feed(a.poll(100), 100)
    assert heard[-1] == (LOG, b"again")


def test_an_idle_line_stays_silent():
    line = Line(Mux(1), Mux(2))
    line.ends[0].send(CONTROL, b"x")
    line.run()
    for _ in range(50):
        line.tick()
    carried = line.wires[0].carried + line.wires[1].carried
    for _ in range(5000):
        line.tick()
    assert line.wires[0].carried + line.wires[1].carried == carried


def test_two_ends_that_only_met_stay_silent_too():
    for late in (0, 1, 50, 199, 200, 201):
        line = Line(Mux(1), Mux(2), late)
        line.wires[0].per_thousand = 1000
        for _ in range(late):
            line.tick()
        line.wires[0].per_thousand = 0
        for _ in range(1000):
            line.tick()
        carried = line.wires[0].carried + line.wires[1].carried
        for _ in range(1000):
            line.tick()
        assert line.wires[0].carried + line.wires[1].carried == carried


def test_one_lost_frame_is_sent_again_at_the_next_answer_not_at_the_timer():
    a, b = _met()
    a.send(CONTROL, bytes(600))
    frames = a.poll(10).split(b"\x00")
    assert len(frames) > 8
    b.feed(b"\x00".join(frames[:2] + frames[3:]), 10)
    a.feed(b.poll(10), 10)
    again = a.poll(10)
    assert a.resent == 1
    assert b.feed(again, 10) == [(CONTROL, bytes(600))]


def test_a_frame_that_comes_twice_counts_once_even_when_the_numbers_come_round():
    a, b = _met()
    for i in range(600):
        a.send(CONTROL, bytes([i & 0xFF]))
        sent = a.poll(i)
        assert b.feed(sent, i) == [(CONTROL, bytes([i & 0xFF]))]
        assert b.feed(sent, i) == []
        a.feed(b.poll(i), i)


def test_a_fragment_that_does_not_fit_its_message_loses_the_message_only():
    a, b = _met()
    answer = b"\x00\x00\x00\x00"
    for number, head, payload in (
        (0, 0xC0, b"\x00\x00\x05abc"),
        (1, 0x80, b"defgh"),  # eight bytes of five
        (2, 0xA0, b""),
        (3, 0xC0, b"\x00\x00\x05abc"),
        (4, 0xA0, b""),  # three bytes of five
        (5, 0xA0, b"the end of nothing"),
        (6, 0xC0, b"\x00\x00\x05abc"),  # never ended
        (7, 0xC0, b"\xff\xff\xff"),  # over the limit
        (8, 0xA0, b"de"),
    ):
        body = bytes([head, number, number + 1]) + answer + payload
        assert b.feed(frame.encode(body, a._seal_out), 0) == []
        assert b._parts.get(0, (0, b""))[0] <= 5
    body = bytes([0xE0, 9, 10]) + answer + b"\x00\x00\x05abcde"
    assert b.feed(frame.encode(body, a._seal_out), 0) == [(CONTROL, b"abcde")]


def test_a_malformed_hello_ends_no_connection():
    _, b = _met()
    met, peer = b.generation, b._peer
    hello = b"\x01PV1" + (7).to_bytes(4, "big") + bytes(4)
    for body in (b"\x01PV2" + hello[4:], hello + b"x", hello[:-1], hello[:4] + bytes(8)):
        b.feed(frame.encode(body), 0)
        assert (b.generation, b._peer) == (met, peer)
    b.feed(frame.encode(hello), 0)
    assert (b.generation, b._peer) == (met + 1, 7)


def test_an_acknowledgement_of_unsent_frames_changes_nothing():
    a, b = _met()
    a.send(CONTROL, b"x")
    sent = a.poll(0)
    for upto in range(2, 256):
        a.feed(frame.encode(bytes([2, upto, 0, 0, 0]), b._seal_out), 0)
    assert not a.idle()
    assert b.feed(sent, 0) == [(CONTROL, b"x")]
    a.feed(b.poll(0), 0)
    assert a.idle()


def test_poll_has_nothing_to_do_before_the_wait_is_over():
    mux = Mux(1)
    assert mux.wait_ms(0) == 0
    assert mux.poll(0)
    wait = mux.wait_ms(0)
    assert 0 < wait <= 1000
    assert mux.poll(wait - 1) == b""
    assert mux.poll(wait)


def test_any_body_in_a_valid_frame_raises_nothing():
    chance = Chance(3)
    line = Line(Mux(1), Mux(2))
    line.ends[0].send(CONTROL, b"x")
    line.run()
    mux = line.ends[1]
    for kind in range(256):
        for length in (0, 3, 6, 7, 9, 20):
            body = bytes([kind]) + chance.bytes(length)
            mux.feed(frame.encode(body, mux._seal_in), line.now)
            mux.feed(frame.encode(body), line.now)
            mux.poll(line.now)
