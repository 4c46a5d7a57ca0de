"""The ports under CPython: a socket, a Unix socket and a terminal behave alike.

The same ports run under every MicroPython in tests/e2e/test_car_link.py.
"""

from __future__ import annotations

import os
import pty
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evcc.ports import serial, stream, tcp, unix
from evcc.ports.stream import PortError, of_socket


class Terminal:
    """The other end of a serial line."""

    def __init__(self, master: int) -> None:
        self.master = master

    def sendall(self, data: bytes) -> None:
        os.write(self.master, data)

    def recv(self, n: int) -> bytes:
        return os.read(self.master, n)

    def close(self) -> None:
        os.close(self.master)


def connect(kind: str, folder: Path) -> tuple[Any, Any]:
    """Return a stream of this kind and its peer."""
    if kind == "serial":
        master, slave = pty.openpty()
        port = serial.open_tty(os.ttyname(slave))
        os.close(slave)
        return port, Terminal(master)
    if kind == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        port = tcp.connect(*listener.getsockname())
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "socket"))
        listener.listen()
        port = unix.connect(str(folder / "socket"))
    peer, _ = listener.accept()
    listener.close()
    return port, peer


KINDS = pytest.mark.parametrize("kind", ["serial", "tcp", "unix"])


@KINDS
def test_bytes_go_both_ways(kind: str, short_dir: Path) -> None:
    port, peer = connect(kind, short_dir)
    every = bytes(range(256))
    port.write(every)
    received = b""
    while len(received) < 256:
        received += peer.recv(256)
    assert received == every
    peer.sendall(every)
    received = b""
    while len(received) < 256:
        piece = port.read(100, 1000)
        assert 0 < len(piece) <= 100
        received += piece
    assert received == every
    port.close()
    peer.close()


@KINDS
def test_a_read_waits_no_longer_than_its_timeout(kind: str, short_dir: Path) -> None:
    port, peer = connect(kind, short_dir)
    began = time.monotonic()
    assert port.read(10, 0) == b""
    assert port.read(10, 80) == b""
    assert 0.07 < time.monotonic() - began < 5
    threading.Timer(0.05, peer.sendall, (b"x",)).start()
    assert port.read(10, 5000) == b"x"
    assert time.monotonic() - began < 5
    port.close()
    peer.close()


@KINDS
def test_the_end_of_the_other_end_is_noticed(kind: str, short_dir: Path) -> None:
    port, peer = connect(kind, short_dir)
    peer.sendall(b"last")
    assert port.read(10, 1000) == b"last"
    peer.close()
    with pytest.raises(PortError) as caught:
        port.read(10, 1000)
    assert caught.value.reason == "closed"

    def write_on() -> None:
        for _ in range(3):
            port.write(b"to nobody")
            time.sleep(0.01)

    with pytest.raises(PortError) as caught:
        write_on()
    assert caught.value.reason == "closed"
    port.close()


def test_a_peer_that_reads_nothing_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "_WRITE_TIMEOUT_MS", 50)
    near, far = socket.socketpair()
    with pytest.raises(PortError) as caught:
        of_socket(near).write(bytes(10_000_000))
    assert caught.value.reason == "timeout"
    far.close()
    near.close()


@pytest.mark.parametrize(
    "open_port",
    [
        lambda: serial.open_tty("/dev/no-such-port"),
        lambda: serial.open_tty("/dev/null"),
        lambda: serial.open_tty("/dev/null", baud=12345),
        lambda: tcp.connect("127.0.0.1", 1),
        lambda: unix.connect("/no/such/socket"),
        lambda: unix.connect("/" + "x" * 107),
    ],
)
def test_a_port_that_is_not_there_is_a_clear_error(open_port: Any) -> None:
    with pytest.raises(PortError) as caught:
        open_port()
    assert caught.value.reason == "unavailable"
