"""The line: a mux on the byte stream of a port.

Has no thread: the owner calls `pump`, from one thread only. Received messages wait in `inbox`,
with the same limits by channel as for sending; further messages are dropped and counted.
"""

from evcc.link.mux import weight

const = int  # MicroPython's compiler replaces the name of a `const` by its number
_READ = const(256)  # bytes at a time, one long frame: a board computes milliseconds for them
_WRITTEN = const(128)  # bytes after which no frame follows: a board's UART has room for 256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable


class Line:
    """stream: read(n, timeout_ms) -> bytes, write(bytes). mux: `evcc.link.mux.Mux`.
    ticks_ms: () -> milliseconds of a clock that never goes back. `inbox`: received messages for
    the owner, (channel, data). `dropped`: by channel, the number of messages without room in
    `inbox`; the owner clears it. `feed`: called by each `pump`, for a watchdog; None: there is
    none."""

    def __init__(self, stream, mux, ticks_ms) -> None:
        self.stream = stream
        self.mux = mux
        self.ticks_ms = ticks_ms
        self.inbox: list = []
        self.dropped: dict = {}
        self.feed: "Callable[[], None] | None" = None

    def send(self, channel: int, data: bytes) -> None:
        """Queue a message; the next `pump` sends it. Raises: LinkError, as `Mux.send`."""
        self.mux.send(channel, data)

    def pump(self, wait_ms: int) -> None:
        """Write the first due frames; wait up to `wait_ms` for bytes, and read 256 at most.

        The next call sends their acknowledgement. Raises: PortError.
        """
        if self.feed is not None:
            self.feed()
        self.flush()
        wait_ms = min(wait_ms, self.mux.wait_ms(self.ticks_ms()))
        data = self.stream.read(_READ, wait_ms)
        if not data:
            return
        try:
            messages = self.mux.feed(data, self.ticks_ms())
        except MemoryError:
            messages = []  # these bytes are lost like noise, and the peer repeats them
        for channel, message in messages:
            self._take(channel, message)

    def _take(self, channel: int, message: bytes) -> None:
        waiting = [entry[1] for entry in self.inbox if entry[0] == channel]
        if weight(waiting + [message]) > self.mux.queues[channel]:
            self.dropped[channel] = self.dropped.get(channel, 0) + 1
        else:
            self.inbox.append((channel, message))

    def flush(self) -> None:
        """Write the first of the frames that are due now. Raises: PortError."""
        out = self.mux.poll(self.ticks_ms(), _WRITTEN)
        if out:
            self.stream.write(out)


class ChannelStream:
    """One channel as a byte stream, for a client that waits for answers: the vault's."""

    def __init__(self, line: Line, channel: int) -> None:
        self._line = line
        self._channel = channel
        self._received = b""

    def write(self, data: bytes) -> None:
        """Queue the bytes. Raises: LinkError."""
        self._line.send(self._channel, data)

    def read(self, n: int, timeout_ms: int) -> bytes:
        """At most `n` bytes; b"" after `timeout_ms`. Messages of other channels stay queued.

        Raises: PortError."""
        line = self._line
        end = line.ticks_ms() + timeout_ms
        while not self._received:
            line.pump(max(end - line.ticks_ms(), 0))
            self._received = b"".join(
                [data for channel, data in line.inbox if channel == self._channel]
            )
            line.inbox = [message for message in line.inbox if message[0] != self._channel]
            if line.ticks_ms() >= end:
                break
        data, self._received = self._received[:n], self._received[n:]
        return data

    def close(self) -> None:
        """Drop the bytes that were received and not read; the line stays open."""
        self._received = b""
