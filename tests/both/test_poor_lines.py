"""The link on lines with delay and noise: its time-out, its window, the length of fragments."""

from evcc.link import frame
from evcc.link.mux import CONTROL, SESSION, Mux
from noise import Chance, Line

ROOMY = {CONTROL: 4096, SESSION: 60000}


def far(delay_ms, per_thousand=0):
    """A line on which the time to an echo is known."""
    line = Line(Mux(1, queues=ROOMY), Mux(2), 3, per_thousand, delay_ms=delay_ms // 2)
    for _ in range(3):
        line.ends[0].send(CONTROL, b"x")
        line.run(60000)
    line.got[1] = []
    return line


def bytes_a_second(line, total):
    """Of messages of 4,000 bytes, one after the other."""
    for i in range(total // 4000):
        line.ends[0].send(SESSION, bytes([i]) * 4000)
    took = line.run(120000)
    assert [message[:1] for _, message in line.got[1]] == [
        bytes([i]) for i in range(total // 4000)
    ]
    return total * 1000 // took


def test_a_line_of_one_second_carries_5000_bytes_a_second():
    assert bytes_a_second(far(1000), 48000) >= 5000


def test_a_line_of_three_seconds_carries_1000_bytes_a_second():
    assert bytes_a_second(far(3000), 48000) >= 1000


def test_a_delay_that_is_known_causes_no_repetition():
    line = far(3000)
    repeated = line.ends[0].resent
    bytes_a_second(line, 16000)
    assert line.ends[0].resent == repeated


def test_the_first_4000_bytes_over_three_seconds_of_delay_take_three_round_trips():
    line = Line(Mux(1), Mux(2), delay_ms=1500)
    line.ends[0].send(SESSION, bytes(4000))
    assert line.run() < 9000


def test_a_repeated_frame_is_timed_by_its_own_echo():
    """An answer after 900 ms, to the first of two transmissions, is no answer of 400 ms."""
    a, b = Mux(1), Mux(2)
    for _ in range(3):
        b.feed(a.poll(0), 0)
        a.feed(b.poll(0), 0)
    a.send(CONTROL, b"x")
    b.feed(a.poll(0), 0)
    assert a.poll(499) == b"" and a.poll(500) != b""
    times = []
    a._time = times.append
    a.feed(b.poll(900), 900)
    assert times == [900]


def test_the_time_out_follows_the_line_up_and_down():
    a = Mux(1)
    for elapsed in (2000, 30):
        for _ in range(80):
            a._time(elapsed)
        assert elapsed <= a._timer_end() <= elapsed + elapsed // 4 + 20


def test_a_near_line_has_no_more_in_flight_than_a_board_buffers():
    line = far(0)
    for i in range(6):
        line.ends[0].send(SESSION, bytes([i]) * 8000)
    most = 0
    while not line.ends[0].idle():
        line.tick()
        most = max(most, len(line.wires[0].waiting))
    assert 2000 < most <= 4096


def cut_above(limit):
    """A wire's `put` that carries no frame of more bytes."""

    def put(wire):
        def carry(data):
            for sealed in data.split(b"\x00"):
                if 0 < len(sealed) <= limit:
                    wire.waiting += sealed + b"\x00"

        return carry

    return put


def grown():
    """A line with fragments of full length."""
    line = far(0)
    line.ends[0].send(SESSION, bytes(8000))
    line.run()
    line.got[1] = []
    assert line.ends[0]._longest == 240
    return line


def test_fragments_from_a_better_time_arrive_in_pieces():
    for delay in (0, 200):
        line = grown()
        for wire in line.wires:
            wire.far = [b""] * delay
            wire.put = cut_above(60)(wire)
        messages = [(SESSION, Chance(1).bytes(2000)), (CONTROL, b"beside it")]
        for channel, data in messages:
            line.ends[0].send(channel, data)
        line.run(120000)
        assert sorted(line.got[1]) == sorted(messages)


def test_an_older_peer_that_takes_no_pieces_gets_the_whole_fragment():
    line = grown()
    line.ends[1]._joined = lambda body: b""
    message = Chance(2).bytes(1000)
    good, line.wires[0].put = line.wires[0].put, cut_above(60)(line.wires[0])
    line.ends[0].send(SESSION, message)
    while line.ends[0]._longest > 15:
        line.tick()
    assert line.got[1] == []
    line.wires[0].put = good
    line.run()
    assert line.got[1] == [(SESSION, message)]


def test_pieces_of_any_cut_and_repetition_make_their_fragment_once():
    payload = b"\x00\x00\x28" + bytes(range(40))
    for seed in range(60):
        chance = Chance(seed)
        a, b = Mux(1), Mux(2)
        b.feed(a.poll(0), 0)
        heard = []
        have = stamp = 0
        while not heard:
            stamp += 1
            start = chance.below(have + 4)  # at times one that does not fit yet
            piece = payload[start : start + 1 + chance.below(20)]
            body = bytes([0xF0, 0xFF, stamp & 0xFF, 0, 0, 0, 0, start, len(payload)]) + piece
            heard = b.feed(frame.encode(body, b._seal_in), 0)
            if start <= have:
                have = max(have, start + len(piece))
            assert (have >= len(payload)) == bool(heard)
        assert heard == [(CONTROL, bytes(range(40)))]
        assert b.feed(frame.encode(body, b._seal_in), 0) == []


def test_a_piece_without_bytes_or_place_changes_nothing():
    a, b = Mux(1), Mux(2)
    b.feed(a.poll(0), 0)
    for rest in (b"", b"\x00", b"\x00\x00", b"\x00\x05", b"\x01\x05x"):
        body = bytes([0xF0, 0xFF, 1, 0, 0, 0, 0]) + rest
        assert b.feed(frame.encode(body, b._seal_in), 0) == []
        assert (b._pieces, b._expected) == (b"", 0)


def test_fragments_grow_again_when_the_noise_ends():
    line = grown()
    line.wires[0].per_thousand = 30
    bytes_a_second(line, 4000)
    assert line.ends[0]._longest < 40
    line.got[1] = []
    line.wires[0].per_thousand = 0
    bytes_a_second(line, 44000)
    assert line.ends[0]._longest == 240


def test_a_line_that_was_cut_for_a_minute_goes_on_at_once():
    line = grown()
    messages = [(SESSION, Chance(seed).bytes(3000)) for seed in range(2)]
    for _, data in messages:
        line.ends[0].send(SESSION, data)
    good, line.wires[0].put = line.wires[0].put, lambda data: None
    for _ in range(60000):
        line.tick()
    line.wires[0].put = good
    assert line.run() < 5000
    assert line.got[1] == messages


def test_one_byte_in_twenty_spoiled_is_slow_and_loses_nothing():
    line = far(0, per_thousand=50)
    message = Chance(4).bytes(1500)
    line.ends[0].send(SESSION, message)
    line.run(120000)
    assert line.got[1] == [(SESSION, message)]


def test_delay_and_noise_together_are_slow_and_lose_nothing():
    """The delay there and back, the bytes spoiled in a thousand, the bytes to send, and the bytes
    a second at least: half of the measured ones."""
    for delay_ms, per_thousand, total, least in (
        (300, 10, 4000, 250),
        (1000, 10, 2000, 100),
        (1000, 30, 1000, 13),
        (3000, 10, 1000, 23),
    ):
        line = far(delay_ms, per_thousand)
        messages = [Chance(i).bytes(100) for i in range(total // 100)]
        for data in messages:
            line.ends[0].send(SESSION, data)
            line.ends[1].send(CONTROL, data[:10])
        took = line.run(120000)
        there, back = ([data for _, data in got] for got in (line.got[1], line.got[0]))
        assert there == messages, (delay_ms, per_thousand)
        assert back == [data[:10] for data in messages], (delay_ms, per_thousand)
        assert total * 1000 // took >= least, (delay_ms, per_thousand, took)
