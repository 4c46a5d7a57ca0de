"""A Unix stream socket: the way to the vault service on the same computer.

MicroPython's `connect` takes the packed `sockaddr_un`, not a path.
"""

import socket
import struct
import sys

from evcc.ports.stream import PortError, Stream, of_socket

_PATH_LIMIT = 107  # sun_path holds 108 bytes with its final zero


def connect(path: str) -> Stream:
    """A stream to the socket at `path`. Raises: PortError("unavailable")."""
    raw = path.encode()
    if len(raw) > _PATH_LIMIT:
        raise PortError("unavailable", "socket path longer than 107 bytes: " + path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if sys.implementation.name == "micropython":
            sock.connect(struct.pack("H", socket.AF_UNIX) + raw + b"\x00")
        else:
            sock.connect(path)
    except OSError as error:
        sock.close()
        raise PortError("unavailable", path + ", errno " + str(error.errno))
    return of_socket(sock)
