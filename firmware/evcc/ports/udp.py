"""UDP over IPv6 in the local network, for SDP. A computer's: no board's list has this file.

A group of the local network needs the interface in its address: `getaddrinfo` of every runtime
fills it in from "ff02::1%eth0".
"""

import errno
import socket

from evcc.ports.stream import PortError

LIMIT = 1500  # bytes of a datagram; the messages of SDP have 10 and 28


class Udp:
    """A socket that sends to one address, and receives from any. `source`: for a poll."""

    def __init__(self, host: str, port: int) -> None:
        """host: an IPv6 address; of a group or a link-local one with "%" and its interface.
        Raises: PortError("unavailable")."""
        try:
            address = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_DGRAM)[0]
            self.source = socket.socket(address[0], address[1])
        except OSError as error:
            raise PortError("unavailable", "%s: %s" % (host, error))
        self.source.setblocking(False)
        self._address = address[-1]
        self._host = host

    def send(self, datagram: bytes) -> None:
        """Send one datagram. Raises: PortError("unavailable"), as while the link is down."""
        try:
            self.source.sendto(datagram, self._address)
        except OSError as error:
            raise PortError("unavailable", "%s: errno %s" % (self._host, error.errno))

    def receive(self) -> "bytes | None":
        """A datagram that has arrived, cut after `LIMIT` bytes; None: there is none.

        Raises: PortError("unavailable")."""
        try:
            return self.source.recvfrom(LIMIT)[0]
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise PortError("unavailable", "%s: errno %s" % (self._host, error.errno))

    def close(self) -> None:
        """Close the socket."""
        self.source.close()
