"""A mux on a stream: the one place where the link's bytes meet a port.

Does nothing by itself: the owner calls `pump`, one thread only. What comes in waits in `inbox`,
as much of each channel as may wait on the way out; more is dropped, and counted.
"""

from evcc.link.mux import weight


class Line:
    """stream: read(n, timeout_ms) -> bytes, write(bytes). mux: `evcc.link.mux.Mux`.
    ticks_ms: steady milliseconds. `inbox`: messages not yet looked at, (channel, data).
    `dropped`: by channel, how many found no room there; the owner clears it."""

    def __init__(self, stream, mux, ticks_ms) -> None:
        self.stream = stream
        self.mux = mux
        self.ticks_ms = ticks_ms
        self.inbox: list = []
        self.dropped: dict = {}

    def send(self, channel: int, data: bytes) -> None:
        """Queue a message; the next `pump` sends it. Raises: LinkError."""
        self.mux.send(channel, data)

    def pump(self, wait_ms: int) -> None:
        """Write what is due; wait up to `wait_ms` for bytes and take them. Raises: PortError."""
        self.flush()
        wait_ms = min(wait_ms, self.mux.wait_ms(self.ticks_ms()))
        data = self.stream.read(1024, wait_ms)
        if not data:
            return
        try:
            messages = self.mux.feed(data, self.ticks_ms())
        except MemoryError:
            messages = []  # these bytes are lost, as if to noise: they come again
        for channel, message in messages:
            self._take(channel, message)
        self.flush()

    def _take(self, channel: int, message: bytes) -> None:
        waiting = [data for other, data in self.inbox if other == channel]
        if weight(waiting + [message]) > self.mux.queues[channel]:
            self.dropped[channel] = self.dropped.get(channel, 0) + 1
        else:
            self.inbox.append((channel, message))

    def flush(self) -> None:
        """Write what is due now. Raises: PortError."""
        out = self.mux.poll(self.ticks_ms())
        if out:
            self.stream.write(out)


class ChannelStream:
    """One channel as a byte stream, for a client that waits for its answers (the vault's)."""

    def __init__(self, line: Line, channel: int) -> None:
        self._line = line
        self._channel = channel
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Queue it. Raises: LinkError."""
        self._line.send(self._channel, data)

    def read(self, n: int, timeout_ms: int) -> bytes:
        """At most `n` bytes; b"" after `timeout_ms`. What comes on other channels waits."""
        line = self._line
        end = line.ticks_ms() + timeout_ms
        while not self._rest:
            line.pump(max(end - line.ticks_ms(), 0))
            self._rest = b"".join(
                [data for channel, data in line.inbox if channel == self._channel]
            )
            line.inbox = [message for message in line.inbox if message[0] != self._channel]
            if line.ticks_ms() >= end:
                break
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    def close(self) -> None:
        self._rest = b""
