"""The host's end of the mux: one thread owns the port, other threads use queues.

`send` may be called from any other thread; it waits while the module reads nothing. A received
message goes to the receiver of its channel, which runs in the endpoint's thread: it must not
block or send. An error of a receiver is logged, and the line goes on.
"""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

from evcc.link.mux import EACH, LIMITS, QUEUES, LinkError, Mux, weight
from evcc.ports.stream import PortError, Stream, of_socket
from plugvault import serial_port

log = logging.getLogger("plugvault.link")

Receive = Callable[[bytes], None]
_READ_BYTES = 4096
_SEND_TIMEOUT = 5.0  # seconds for which `send` waits for room


def open_serial(path: Path | str, baud: int = 115200) -> Stream:
    """A serial port, or a pseudo-terminal, as a stream, for this process alone.

    Raises: PortError("unavailable").
    """
    try:
        port = serial_port.open_alone(path, baud, timeout=0)
    except serial_port.SerialPortError as error:
        raise PortError("unavailable", f"{path}: {error}") from error
    return Stream(port, port.read, port.write)


def of_connection(connection: socket.socket) -> Stream:
    """An accepted TCP connection as a stream, without Nagle's algorithm."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return of_socket(connection)


class LinkEndpoint:
    """The host's end of the link on `stream` while the context lasts.

    receivers: {channel: function of a message}. lost: called once when the stream is gone.
    `bytes_in`, `bytes_out`: message bytes by channel. `wire_in`, `wire_out`: bytes on the wire,
    framing and repetition included. `resent`: the number of frames sent more than once.
    """

    def __init__(
        self,
        stream: Stream,
        receivers: dict[int, Receive],
        lost: Callable[[PortError], None] = lambda error: None,
    ) -> None:
        self._stream = stream
        self._receivers = receivers
        self._lost = lost
        self._mux = Mux(int.from_bytes(os.urandom(4), "big") or 1)
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._ended = False
        self._outbox: dict[int, list[bytes]] = {channel: [] for channel in LIMITS}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._closing = threading.Event()
        self._settled = threading.Event()
        self._settled.set()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self.bytes_in: Counter[int] = Counter()
        self.bytes_out: Counter[int] = Counter()
        self.wire_in = 0
        self.wire_out = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._wake()
        self._thread.join(timeout=10)
        self._stream.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def resent(self) -> int:
        return self._mux.resent

    def send(self, channel: int, data: bytes, timeout: float = _SEND_TIMEOUT) -> None:
        """Queue one message. Does nothing once the line is gone.

        timeout: seconds to wait for room. Raises: LinkError("channel" | "too-long" | "full").
        """
        if channel not in LIMITS:
            raise LinkError("channel", str(channel))
        if len(data) > LIMITS[channel]:
            raise LinkError("too-long", f"{len(data)} bytes")
        with self._room:
            waiting = self._outbox[channel]
            if not self._room.wait_for(
                lambda: self._ended or weight(waiting) + len(data) + EACH <= QUEUES[channel],
                timeout,
            ):
                raise LinkError("full", f"the module reads nothing on channel {channel}")
            if self._ended:
                return
            waiting.append(data)
            self.bytes_out[channel] += len(data)
            self._settled.clear()
        self._wake()

    def settle(self, timeout: float) -> bool:
        """Wait until the module has every sent message, or the line is gone. False after `timeout`
        seconds.

        A caller that needs the order of two messages on different channels calls it between them,
        because one channel may overtake another.
        """
        return self._settled.wait(timeout)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes the thread too
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._stream.source, select.POLLIN)
        try:
            while not self._closing.is_set():
                self._write_due()
                poll.poll(self._mux.wait_ms(_now_ms()))
                self._drain_wakes()
                self._read()
                with self._lock:
                    if not any(self._outbox.values()) and self._mux.idle():
                        self._settled.set()
        except Exception as error:  # noqa: BLE001 - each end is told to the callers
            if not self._closing.is_set():
                self._lost(_as_port_error(error))
        finally:
            with self._room:
                self._ended = True
                self._settled.set()
                self._room.notify_all()

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _write_due(self) -> None:
        with self._room:
            for channel, waiting in self._outbox.items():
                while waiting and len(waiting[0]) <= self._mux.room(channel):
                    self._mux.send(channel, waiting.pop(0))
            self._room.notify_all()
        out = self._mux.poll(_now_ms())
        if out:
            self.wire_out += len(out)
            self._stream.write(out)

    def _read(self) -> None:
        data = self._stream.read(_READ_BYTES, 0)
        self.wire_in += len(data)
        for channel, message in self._mux.feed(data, _now_ms()):
            self.bytes_in[channel] += len(message)
            receive = self._receivers.get(channel)
            if receive is None:
                continue
            try:
                receive(message)
            except Exception:
                log.exception("the receiver of channel %d", channel)


def _as_port_error(error: Exception) -> PortError:
    if isinstance(error, PortError):
        return error
    if isinstance(error, OSError):  # a cable that was pulled
        return PortError("closed", error.strerror or "the port has ended")
    log.error("the line has ended", exc_info=error)
    return PortError("closed", f"{type(error).__name__}: {error}")


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
