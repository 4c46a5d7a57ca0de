"""A bench that reads nothing, and one that sends too much: queues are bounded and reported."""

import json

from evcc.contracts import Contract
from evcc.link.line import ChannelStream, Line
from evcc.link.mux import CONTROL, LIMITS, LOG, QUEUES, SESSION, TELEMATICS, VAULT, Mux, weight
from evcc.module import Module
from evcc.vault import VaultError, service
from helpers import needs_heap, raises
from memory import MemoryFiles
from scripted import OFFERED, answer
from softvault import SoftVault

HELLO = b"\x01" + bytes(32)


class Port:
    """The module's stream: its input is the output of the bench's mux, and the reverse."""

    def __init__(self):
        self.coming = b""
        self.gone = b""

    def read(self, n, timeout_ms):
        data, self.coming = self.coming[:n], self.coming[n:]
        return data

    def write(self, data):
        self.gone += data


class Counting:
    """A vault that counts what it is asked."""

    def __init__(self, vault):
        self._vault = vault
        self.asked = 0

    def __getattr__(self, name):
        self.asked += 1
        return getattr(self._vault, name)


class Bench:
    """A module, and a bench that only takes what the module says when it is told to."""

    def __init__(self):
        self.port = Port()
        self.line = Line(self.port, Mux(1), lambda: 0)
        self.vault = Counting(SoftVault())
        files = MemoryFiles()
        self.module = Module(self.line, bytes(65), self.vault, files, lambda: 1790000000)
        self.mux = Mux(2)
        self.heard = []
        self.now = 0

    def take(self, rounds=60):
        """The bench takes all there is."""
        for _ in range(rounds):
            self.exchange()
            self.module.step()

    def exchange(self):
        self.now += 1
        self.heard += self.mux.feed(self.port.gone, self.now)
        self.port.gone = b""
        self.port.coming += self.mux.poll(self.now)

    def deaf(self, channel, *messages):
        """They reach the module, as if the line had carried them; nothing is taken from it."""
        for message in messages:
            self.line.inbox.append((channel, message))
            self.module.step()
            self.port.gone = b""

    def told(self, channel):
        return [data for number, data in self.heard if number == channel]

    def bounded(self):
        for channel in LIMITS:
            assert weight(self.line.mux._queues[channel]) <= QUEUES[channel]


def plug():
    return json.dumps({"id": 1, "do": "plug", "want_contract": True}).encode()


def test_a_maker_that_reads_no_answers_is_served_no_more():
    bench = Bench()
    bench.deaf(TELEMATICS, *[HELLO] * 300)
    calls = bench.vault.asked
    bench.deaf(TELEMATICS, *[HELLO] * 300)
    assert bench.vault.asked == calls < 300
    bench.bounded()
    waiting = len(bench.line.mux._queues[TELEMATICS])
    assert bench.line.mux.room(TELEMATICS) < LIMITS[TELEMATICS]
    bench.take()
    assert len(bench.told(TELEMATICS)) == waiting
    assert any(b"the bench reads no answers" in line for line in bench.told(LOG))
    bench.deaf(TELEMATICS, HELLO)  # a reader is served again
    bench.take()
    assert len(bench.told(TELEMATICS)) == waiting + 1


def test_a_long_answer_under_way_does_not_keep_the_maker_from_the_next_request():
    bench = Bench()
    bench.line.send(TELEMATICS, bytes(LIMITS[TELEMATICS]))
    bench.deaf(TELEMATICS, HELLO)
    assert len(bench.line.mux._queues[TELEMATICS]) == 2


def test_a_request_that_could_not_be_answered_is_not_carried_out_and_counted():
    bench = Bench()
    status = json.dumps({"id": 1, "do": "status"}).encode()
    bench.deaf(CONTROL, *[status] * 100)
    answered = len(bench.line.mux._queues[CONTROL])
    assert answered < 100
    bench.deaf(CONTROL, plug())
    assert bench.module._session is None
    bench.bounded()
    bench.take()
    bench.deaf(CONTROL, plug())
    bench.take()
    events = [json.loads(data) for data in bench.told(CONTROL)]
    assert [message["missed"] for message in events if "missed" in message] == [101 - answered]
    assert events[-1]["session"] == 1


def test_lost_events_and_log_lines_are_counted_in_the_next():
    bench = Bench()
    for _ in range(1000):
        bench.module._event("check", "x" * 50)
        bench.module._log("y" * 50)
    bench.bounded()
    events, lines = [len(bench.line.mux._queues[channel]) for channel in (CONTROL, LOG)]
    bench.take()
    bench.module._event("check", "the next")
    bench.module._log("the next")
    bench.module._event("check", "and one more")
    bench.module._log("and one more")
    bench.take()
    events_read = [json.loads(data) for data in bench.told(CONTROL)]
    assert events_read[-2]["missed"] == 1000 - events
    assert "missed" not in events_read[-1]
    log = bench.told(LOG)
    assert log[-2] == b"(%d lines before this one are missing) the next" % (1000 - lines)
    assert log[-1] == b"and one more"


def test_a_session_with_unread_frames_is_ended():
    bench = Bench()
    bench.deaf(CONTROL, plug())
    while bench.line.mux.room(SESSION) >= 0:  # frames of an earlier session
        bench.line.send(SESSION, bytes(min(LIMITS[SESSION], bench.line.mux.room(SESSION))))
    pair = "supportedAppProtocol"
    bench.deaf(SESSION, answer(pair, OFFERED[pair]))
    assert bench.module._session is None
    bench.bounded()
    bench.take()
    events = [json.loads(data) for data in bench.told(CONTROL)][1:]
    assert [(event["event"], event["text"], event["session"]) for event in events] == [
        ("failed", "stalled", 1),
        ("closed", "", 1),
    ]


def test_repeated_plugs_without_a_reader_end_in_a_refusal():
    bench = Bench()
    unplug = json.dumps({"id": 2, "do": "unplug"}).encode()
    for _ in range(400):
        bench.deaf(CONTROL, plug(), unplug)
        answers = bench.line.mux._queues[CONTROL]
        bench.line.mux._queues[CONTROL] = []
        bench.bounded()
    assert b"the bench reads no frames of the session" in answers[-2]
    assert bench.module._session is None


def test_messages_that_come_too_fast_are_dropped_and_end_the_session():
    needs_heap(1 << 19)
    bench = Bench()
    bench.deaf(CONTROL, plug())
    stream = ChannelStream(bench.line, VAULT)
    bench.take()
    seen = len(bench.heard)
    ticks = iter(range(2000))
    bench.line.ticks_ms = lambda: next(ticks)
    for _ in range(200):  # while the module waits for its vault
        for channel in (CONTROL, SESSION, TELEMATICS):
            if bench.mux.room(channel) >= 1000:
                bench.mux.send(channel, bytes(1000))
        bench.exchange()
        stream.read(1, 1)
        for channel in LIMITS:
            queued = [data for number, data in bench.line.inbox if number == channel]
            assert weight(queued) <= QUEUES[channel]
    assert bench.line.dropped[SESSION] > 0
    bench.line.ticks_ms = lambda: 0
    bench.line.inbox = []  # these messages would end the session otherwise
    bench.port.coming = b""
    bench.module.step()
    assert bench.line.dropped == {}
    assert bench.module._session is None
    bench.take()
    events = [json.loads(data) for channel, data in bench.heard[seen:] if channel == CONTROL]
    assert ("failed", "stalled") in [(e.get("event"), e.get("text")) for e in events]
    log = [data for channel, data in bench.heard[seen:] if channel == LOG]
    assert any(line.startswith(b"session: ") and b"found no room" in line for line in log)


def test_a_vault_behind_a_line_that_takes_nothing_is_unavailable():
    bench = Bench()
    while bench.line.mux.room(VAULT) >= 0:
        bench.line.send(VAULT, bytes(min(LIMITS[VAULT], bench.line.mux.room(VAULT))))
    ticks = iter(range(0, 1000000, 100))
    bench.line.ticks_ms = lambda: next(ticks)
    vault = service.connect(ChannelStream(bench.line, VAULT))
    raises(VaultError, "unavailable", vault.random, 1)
    bench.bounded()


def test_messages_that_come_while_the_vault_computes_are_taken_and_handled_afterwards():
    bench = Bench()
    ticks = [0]
    bench.line.ticks_ms = lambda: ticks[0]
    bench.take(5)
    bench.heard = []
    bench.mux.send(CONTROL, b'{"id": 1, "do": "status"}')
    for _ in range(20):
        bench.port.coming += bench.mux.poll(bench.now)
        ticks[0] += 1
        bench.vault.pause()
    assert bench.line.inbox == [(CONTROL, b'{"id": 1, "do": "status"}')]
    assert bench.heard == []
    bench.take()
    assert len(bench.told(CONTROL)) == 1


def _asked(request):
    """The answer to a request on CONTROL, and the other messages about it."""
    bench = Bench()
    bench.take(6)
    bench.heard = []
    bench.mux.send(CONTROL, request)
    bench.take()
    told = [json.loads(data) for data in bench.told(CONTROL)]
    answers = [message for message in told if "id" in message]
    assert len(answers) == 1, (request[:60], told)
    return answers[0], [message for message in told if "id" not in message] + bench.told(LOG)


def test_a_malformed_request_gets_one_answer_and_is_no_bug():
    needs_heap(1 << 19)  # a smaller one runs out in the parser: the event is "unable", "resources"
    deep = b"[" * 1900 + b"]" * 1900
    for request in (
        b"[" * 4000,
        deep,
        b'{"id": 1, "do": ' + deep + b"}",
        b'{"id": ' + deep + b', "do": "status"}',
        b'{"id": "' + b"a" * 33 + b'", "do": "status"}',
        b'{"id": 1e999, "do": "status"}',
    ):
        answer_, others = _asked(request)
        assert answer_["error"] == "not a request" and others == [], request[:60]


def test_a_wrong_wish_is_named_and_is_no_bug():
    deep = b"[" * 900 + b"]" * 900
    for factor in (b"1e999", b'"x"', b"null", b"[]", b"true", b"2.5", deep):
        answer_, others = _asked(b'{"id": 1, "do": "plug", "time_factor": ' + factor + b"}")
        assert answer_["error"] == "time_factor: a whole number" and others == [], factor[:9]
    answer_, others = _asked(b'{"id": 1, "do": "plug", "emaid": ' + deep + b"}")
    assert answer_["error"].startswith("length") and others == []


def test_a_status_of_five_long_names_fits_into_its_answer():
    bench = Bench()
    for n in range(5):
        name = (b"\xf0\x9f\x94\x8c" * 330).decode()  # json.dumps makes 12 bytes of each
        made = Contract("DEABC%010d" % n, bytes([n]) * 16, bytes(32), "L1+", name, 0, 2**40, b"")
        bench.module._car.contracts._contracts.append(made)
    bench.take(6)
    bench.heard = []
    longest = b'"' + b"\xf0\x9f\x94\x8c" * 32 + b'"'
    bench.mux.send(CONTROL, b'{"id": ' + longest + b', "do": "status"}')
    bench.take()
    (told,) = bench.told(CONTROL)
    assert len(json.loads(told)["contracts"]) == 5


def test_the_end_of_a_session_releases_the_key_that_it_held():
    for end in (b'{"id": 2, "do": "unplug"}', b"lost"):
        bench = Bench()
        contracts, keys = bench.module._car.contracts, bench.vault._vault
        for n in (7, 8):
            made = Contract(
                "DEABC00000001X", keys.add(n), bytes(32), "L1+", "", 0, 2**40, bytes(16)
            )
            if n == 7:
                contracts.commit(made, [b"leaf"])
                bench.deaf(CONTROL, plug())
                held = contracts.hold(made.emaid).key
            else:
                assert contracts.commit(made, [b"renewed"]) is None
        assert held in dict(keys.keys())
        bench.deaf(*((SESSION, b"") if end == b"lost" else (CONTROL, end)))
        assert bench.module._session is None and held not in dict(keys.keys())


def test_one_session_at_a_time():
    bench = Bench()
    bench.deaf(CONTROL, plug())
    first = bench.module._session
    bench.deaf(CONTROL, plug())
    assert bench.module._session is first


def test_a_bug_in_one_step_ends_that_session_only():
    bench = Bench()
    bench.deaf(CONTROL, plug())

    def bug(data, now_ms):
        raise RuntimeError("secret 12345")

    bench.module._session.take = bug
    bench.deaf(SESSION, b"x")
    assert bench.module._session is None
    bench.deaf(CONTROL, plug())
    assert bench.module._session is not None
    bench.take()
    assert not any(b"12345" in line for line in bench.told(LOG))


def test_link_is_served_before_a_message_is_carried_out():
    bench = Bench()
    ticks, taken = [0], []
    bench.line.ticks_ms = lambda: ticks[0]
    bench.take(5)
    bench.mux.send(CONTROL, b"{}")
    bench.exchange()
    ticks[0] = 1000
    bench.module._vehicle.carry_out = lambda: taken.extend(bench.line.inbox) or []
    bench.module._carry_out_due(TELEMATICS)
    assert taken == [(CONTROL, b"{}")]
