"""The connection to a host, where the host does not answer."""

import errno

from evcc.ports import tcp
from evcc.ports.stream import PortError
from helpers import raises


class Silent:
    """A socket whose host takes no connection: with a limit `connect` fails, without it waits."""

    def __init__(self, *_):
        self.seconds = None
        self.is_closed = False

    def settimeout(self, seconds):
        self.seconds = seconds

    def connect(self, address):
        assert self.seconds is not None, "the caller waits for ever"
        raise OSError(errno.ETIMEDOUT)

    def close(self):
        self.is_closed = True


class Sockets:
    """The module `socket`."""

    SOCK_STREAM = 1

    def __init__(self):
        self.opened = Silent()

    def getaddrinfo(self, host, port, *_):
        return [(2, 1, 0, "", (host, port))]

    def socket(self, *_):
        return self.opened


def test_a_host_that_takes_no_connection_is_given_up():
    real, tcp.socket = tcp.socket, Sockets()
    try:
        raises(PortError, "unavailable", tcp.connect, "192.0.2.1", 5000)
        assert tcp.socket.opened.is_closed
    finally:
        tcp.socket = real
