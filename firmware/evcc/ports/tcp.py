"""A TCP stream to a host, for a link or a vault service over a network.

No TLS: the link's channels authenticate for themselves (`evcc.telematics`).
"""

import socket

from evcc.ports.stream import PortError, Stream, of_socket

_IPPROTO_TCP = 6
_TCP_NODELAY = 1
_CONNECT_SECONDS = 5


def connect(host: str, port: int) -> Stream:
    """A stream to `host`, a name or an address, and `port`.

    Raises: PortError("unavailable"), after 5 s where the host does not answer."""
    sock = None
    try:
        address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
        sock = socket.socket(address[0], address[1])
        sock.settimeout(_CONNECT_SECONDS)
        sock.connect(address[-1])
    except OSError as error:
        if sock is not None:
            sock.close()
        raise PortError("unavailable", host + ":" + str(port) + ": " + str(error))
    try:
        sock.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
    except OSError:
        pass  # it only affects speed, and some boards' stacks lack the option
    return of_socket(sock)
