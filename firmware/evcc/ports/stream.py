"""A byte stream with timeouts, over a UART, a TCP socket or a Unix socket.

Works on `select.poll`, which CPython and every MicroPython have. Does no framing.
"""

import errno
import select

from evcc.errors import EvccError

_WRITE_TIMEOUT_MS = 5000
_GONE = (errno.EIO, errno.ECONNRESET, errno.ENOTCONN, 32)  # 32: EPIPE, unnamed in MicroPython


class PortError(EvccError):
    """The other end is gone, cannot be reached, or takes no bytes."""

    REASONS = (
        "closed",  # by the other end
        "unavailable",  # it cannot be opened or reached
        "timeout",  # it takes no bytes
    )


class Stream:
    """A byte stream over `source`, which `select.poll` can wait for.

    `receive(n)` returns at most n bytes without waiting (b"" or None: none); `send(data)` returns
    the number of bytes it took.
    """

    def __init__(self, source, receive, send) -> None:
        self.source = source
        self._receive = receive
        self._send = send
        self._readable = select.poll()
        self._readable.register(source, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(source, select.POLLOUT)

    def read(self, n: int, timeout_ms: int) -> bytes:
        """At most `n` bytes, as soon as some have arrived; b"" after `timeout_ms`.

        Raises: PortError("closed") when the other end is gone.
        """
        if not self._readable.poll(timeout_ms):
            return b""
        try:
            data = self._receive(n)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return b""
            raise _port_error(error)
        if not data and self._hung_up():
            raise PortError("closed", "the other end is gone")
        return bytes(data or b"")

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises: PortError("closed"), PortError("timeout") after 5 s."""
        view = memoryview(data)
        while view:
            if not self._writable.poll(_WRITE_TIMEOUT_MS):
                raise PortError("timeout", "the other end takes no bytes")
            try:
                view = view[self._send(view) or 0 :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise _port_error(error)

    def close(self) -> None:
        """Close the port."""
        self.source.close()

    def _hung_up(self) -> bool:
        """Readable with nothing to read: the end of a socket's stream, or a hung-up line."""
        ready = self._readable.poll(0)
        return bool(ready) and bool(ready[0][1] & (select.POLLIN | select.POLLHUP))


def of_socket(sock) -> Stream:
    """The stream of a connected socket, which it makes non-blocking."""
    sock.setblocking(False)
    return Stream(sock, sock.recv, sock.send)


def _port_error(error: OSError) -> PortError:
    reason = "closed" if error.errno in _GONE else "unavailable"
    return PortError(reason, "errno " + str(error.errno))
