"""A turn of the line moves a small piece each way: a slow board never computes for long."""

from evcc.link.line import Line
from evcc.link.mux import SESSION, Mux

MESSAGE = bytes(range(256)) * 8
READ, WRITTEN = 256, 128
LONG_FRAME = 263  # bytes on the line


class Port:
    """A stream that notes how much is read and written at a time."""

    def __init__(self):
        self.coming = self.gone = b""
        self.read_sizes = []
        self.written_sizes = []

    def read(self, n, timeout_ms):
        data, self.coming = self.coming[:n], self.coming[n:]
        self.read_sizes.append(len(data))
        return data

    def write(self, data):
        self.written_sizes.append(len(data))
        self.gone += data


class Ends:
    """A line, and the mux of its peer, which reads and writes without a limit."""

    def __init__(self):
        self.port, self.peer, self.heard = Port(), Mux(2), []
        self.line = Line(self.port, Mux(1), lambda: 0)
        for _ in range(4):
            self.turn()

    def turn(self):
        self.line.pump(0)
        self.heard += self.peer.feed(self.port.gone, 0)
        self.port.gone = b""
        self.port.coming += self.peer.poll(0)


def test_message_is_written_in_small_pieces():
    ends = Ends()
    ends.line.send(SESSION, MESSAGE)
    while not ends.heard:
        ends.turn()
    assert ends.heard == [(SESSION, MESSAGE)]
    assert max(ends.port.written_sizes) <= WRITTEN + LONG_FRAME


def test_message_is_taken_in_small_pieces():
    ends = Ends()
    ends.peer.send(SESSION, MESSAGE)
    while not ends.line.inbox:
        ends.turn()
    assert ends.line.inbox == [(SESSION, MESSAGE)]
    assert max(ends.port.read_sizes) == READ


def test_frames_left_by_a_flush_are_due_at_once():
    ends = Ends()
    ends.line.send(SESSION, MESSAGE)
    ends.line.flush()
    assert ends.line.mux.wait_ms(0) == 0
