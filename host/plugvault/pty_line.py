"""A serial line for programs of this machine: a pseudo-terminal whose other side is a socket."""

import contextlib
import errno
import os
import pty
import queue
import select
import socket
import termios
import threading
import tty
from concurrent.futures import Future
from pathlib import Path

from plugvault.contexts import Closeable

_PIECE = 4096
_UNREAD = 65_536  # bytes kept for a program that does not read; the oldest are dropped


class PtyLine(Closeable):
    """A line between `path`, a link to a pseudo-terminal while the line is open, and `peer`, a
    socket.

    A line that closes hangs up: programs that have it open read an error or the end of the file.
    `unread`: the number of bytes that were dropped because no program read them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unread = 0
        self._socket, self.peer = socket.socketpair()
        self._socket.setblocking(False)
        self._requests: queue.SimpleQueue[tuple[str, Future[None]]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._ended = False
        self._terminal: tuple[int, int] | None = None  # master, slave
        self._to_program = bytearray()
        self._to_peer = bytearray()
        self._thread = threading.Thread(target=self._run, name=path.name, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the link to a pseudo-terminal exists."""
        return self.path.is_symlink()

    def open(self) -> None:
        """Make a new pseudo-terminal, and the link to it. Raises OSError, and the line is hung up
        then."""
        self._request("open")

    def hang_up(self) -> None:
        """Close the pseudo-terminal, after the bytes that are already on their way to it."""
        self._request("hang up")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may be closed already
            self._request("end")
        self._thread.join()

    def _request(self, what: str) -> None:
        done: Future[None] = Future()
        with self._lock:
            if self._ended:
                raise OSError(errno.EBADF, "the line is closed", str(self.path))
            self._requests.put((what, done))
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_write, b"x")
        done.result()

    # -- in the line's thread --

    def _run(self) -> None:
        try:
            while not self._turn():
                pass
        finally:
            self._end()

    def _turn(self) -> bool:
        """Pass on what is ready. Returns whether the line is at its end."""
        ready_in, ready_out = self._select()
        if self._socket in ready_in:
            self._receive()
        if self._socket in ready_out:
            self._send()
        if self._terminal is not None:
            self._serve(self._terminal[0], ready_in, ready_out)
        return self._wake_read in ready_in and self._carry_out()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
        while not self._requests.empty():
            _, done = self._requests.get()
            done.set_exception(OSError(errno.EBADF, "the line is closed", str(self.path)))
        self._hang_up()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)
        self._socket.close()
        self.peer.close()

    def _select(self) -> tuple[list[object], list[object]]:
        readers: list[socket.socket | int] = [self._wake_read, self._socket]
        writers: list[socket.socket | int] = [self._socket] if self._to_peer else []
        if self._terminal is not None:
            if len(self._to_peer) < _PIECE:
                readers.append(self._terminal[0])
            if self._to_program:
                writers.append(self._terminal[0])
        ready_in, ready_out, _ = select.select(readers, writers, [])
        return list(ready_in), list(ready_out)

    def _carry_out(self) -> bool:
        """The requests of other threads. Returns whether the line is at its end."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, _PIECE)
        while not self._requests.empty():
            what, done = self._requests.get()
            try:
                self._receive()
                self._hang_up()
                if what == "open":
                    self._open()
                done.set_result(None)
            except Exception as error:  # noqa: BLE001 - the requester would wait without end
                done.set_exception(error)
            if what == "end":
                return True
        return False

    def _open(self) -> None:
        master, slave = pty.openpty()
        self._terminal = master, slave
        try:
            # The slave stays open here: a program that closes it hangs up nothing, and echo stays
            # off.
            tty.setraw(slave)
            os.set_blocking(master, False)
            self.path.symlink_to(os.ttyname(slave))
        except Exception as error:
            self._drop()
            if isinstance(error, termios.error):  # it is no OSError
                raise OSError(*error.args) from error
            raise

    def _hang_up(self) -> None:
        if self._terminal is None:
            return
        with contextlib.suppress(OSError):
            self._serve(self._terminal[0], [], [self._terminal[0]])
        self._drop()

    def _drop(self) -> None:
        """Close the pseudo-terminal, and remove the link to it."""
        if self._terminal is None:
            return
        master, slave = self._terminal
        self._terminal = None
        with contextlib.suppress(OSError):
            if str(self.path.readlink()) == os.ttyname(slave):  # nothing of another program
                self.path.unlink()
        os.close(slave)
        os.close(master)
        self._to_peer.clear()
        self._to_program.clear()

    def _serve(self, master: int, ready_in: list[object], ready_out: list[object]) -> None:
        with contextlib.suppress(BlockingIOError):
            if master in ready_in:
                self._to_peer += os.read(master, _PIECE)
            if master in ready_out:
                del self._to_program[: os.write(master, self._to_program)]

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self._socket.recv(_PIECE):
                self._to_program += data
        excess = len(self._to_program) - _UNREAD
        if excess > 0:
            self.unread += excess
            del self._to_program[:excess]

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            del self._to_peer[: self._socket.send(self._to_peer)]
