"""A TCP connection that is opened, read and written without waiting, and the wait for several
sources at once. A computer's: no board's list has this file.
"""

import errno
import select
import socket

from evcc.ports.stream import PortError

_IPPROTO_TCP = 6
_TCP_NODELAY = 1
_FAILED = select.POLLERR | select.POLLHUP
_CONNECTING = (errno.EINPROGRESS, errno.EAGAIN)


def wait(sources: list, timeout_ms: int) -> None:
    """Return when a source is ready, or after `timeout_ms`. sources: [(source, whether it is to be
    written too)]."""
    poll = select.poll()
    for source, writes in sources:
        poll.register(source, select.POLLIN | select.POLLOUT if writes else select.POLLIN)
    poll.poll(timeout_ms)


class Dialled:
    """A connection to host:port, from its first SYN on. `source`: for `wait`."""

    def __init__(self, host: str, port: int) -> None:
        """host: an IP address, a link-local one with "%" and its interface.
        Raises: PortError("unavailable")."""
        self._name = "%s, port %d" % (host, port)
        try:
            address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
            self.source = socket.socket(address[0], address[1])
        except OSError as error:
            raise PortError("unavailable", "%s: %s" % (self._name, error))
        self.source.setblocking(False)
        try:
            self.source.connect(address[-1])
        except OSError as error:
            if error.errno not in _CONNECTING:
                self.source.close()
                raise self._unavailable(error)
        self._opening = select.poll()
        self._opening.register(self.source, select.POLLOUT)

    def is_open(self) -> bool:
        """Whether the connection is made. Raises: PortError("unavailable") when it is refused."""
        ready = self._opening.poll(0)
        if ready and ready[0][1] & _FAILED:
            raise PortError("unavailable", self._name + ": no connection")
        if ready:
            try:
                self.source.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
            except OSError:
                pass  # it only affects speed
        return bool(ready)

    def receive(self, size: int) -> "bytes | None":
        """At most `size` bytes; None: none yet; b"": the other end has closed.

        Raises: PortError("closed") for a broken connection."""
        try:
            return self.source.recv(size)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise PortError("closed", "%s: errno %s" % (self._name, error.errno))

    def send(self, data: bytes) -> int:
        """The number of bytes taken now. Raises: PortError("closed")."""
        try:
            return self.source.send(data) or 0
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return 0
            raise PortError("closed", "%s: errno %s" % (self._name, error.errno))

    def close(self) -> None:
        """Close the socket."""
        self.source.close()

    def _unavailable(self, error: OSError) -> PortError:
        return PortError("unavailable", "%s: errno %s" % (self._name, error.errno))
