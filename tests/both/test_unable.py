"""A module that cannot start tells the reason over the link, and the bench needs no time-out."""

import json

from evcc import unable
from evcc.contracts import ContractError
from evcc.link.line import Line
from evcc.link.mux import CONTROL, LOG, Mux

FAULT = ContractError("damaged", "the contract index")
TEXT = "start: damaged: the contract index"


class Time:
    """Milliseconds that pass only where somebody waits."""

    def __init__(self):
        self.now = 0

    def ms(self):
        return self.now


class Port:
    """The module's stream; the bench at its other end answers during every wait."""

    def __init__(self, time, bench):
        self.time = time
        self.bench = bench
        self.heard = []
        self.coming = b""

    def read(self, n, timeout_ms):
        self.time.now += max(timeout_ms, 1)
        data, self.coming = self.coming[:n], self.coming[n:]
        return data

    def write(self, data):
        if self.bench is not None:
            self.heard += self.bench.feed(data, self.time.now)
            self.coming += self.bench.poll(self.time.now)


def _tell(bench, wait_ms, answers, error=FAULT):
    """(messages that the bench heard, milliseconds until the module goes on)."""
    time = Time()
    port = Port(time, bench)
    unable.tell(Line(port, Mux(1), time.ms), error, wait_ms, answers)
    return port.heard, time.now


def test_the_reason_is_an_event_and_a_line_of_the_log():
    heard, duration = _tell(Mux(2), 2000, False)
    event = {"event": "unable", "text": TEXT, "session": None}
    told = [(channel, data) for channel, data in heard]
    assert [json.loads(data) for channel, data in told if channel == CONTROL] == [event]
    assert [data for channel, data in told if channel == LOG] == [TEXT.encode()]
    assert duration < 2000  # the bench has it


def test_a_module_without_a_bench_does_not_wait_for_ever():
    heard, duration = _tell(None, 2000, False)
    assert heard == [] and duration < 2500


def test_a_board_answers_every_request_with_the_reason_until_it_tries_again():
    time, bench = Time(), Mux(2)
    port = Port(time, bench)
    line = Line(port, Mux(1), time.ms)
    while not line.mux.generation:
        line.pump(10)  # the bench is there before the module fails
    bench.send(CONTROL, b'{"id": 7, "do": "status"}')
    bench.send(CONTROL, b"not json")
    bench.send(CONTROL, b"[" * 4000)
    bench.send(CONTROL, b"[]")
    start = time.now
    unable.tell(line, FAULT, 5000, True)
    assert 5000 <= time.now - start < 6000
    answers = [json.loads(data) for channel, data in port.heard if channel == CONTROL]
    assert {"id": 7, "error": TEXT} in answers
    assert len(answers) == 2


def test_an_id_nested_to_any_depth_raises_nothing():
    class Sink:
        def send(self, channel, data):
            pass

    for depth in range(100, 2000, 100):
        unable._refuse(Sink(), b'{"id": ' + b"[" * depth + b"]" * depth + b"}", TEXT)


def test_a_board_tries_again_when_a_bench_comes_and_answers_one_that_was_there():
    time = Time()
    port = Port(time, None)
    line = Line(port, Mux(1), time.ms)

    class Late:
        """A bench that comes after two seconds."""

        def __init__(self):
            self.mux = Mux(2)

        def feed(self, data, now):
            return self.mux.feed(data, now) if now > 2000 else []

        def poll(self, now):
            return self.mux.poll(now) if now > 2000 else b""

    port.bench = Late()
    unable.tell(line, FAULT, 10000, True)
    assert 2000 < time.now < 4000
    assert (LOG, TEXT.encode()) in port.heard
    start = time.now
    unable.tell(line, FAULT, 10000, True)
    assert time.now - start >= 10000


def test_a_bug_is_told_without_its_text():
    heard, _ = _tell(Mux(2), 2000, False, RuntimeError("secret 12345"))
    assert [data for channel, data in heard if channel == LOG] == [b"start: RuntimeError"]
    heard, _ = _tell(Mux(2), 2000, False, MemoryError())
    assert [data for channel, data in heard if channel == LOG] == [b"start: MemoryError"]
