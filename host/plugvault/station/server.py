"""The station's TCP server: TLS or plain TCP, one `Connection` for each vehicle, and the limits.

A client's error ends at most its own connection. SDP is in `discovery`.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from plugvault import bounded
from plugvault.capture import CapturedConnection
from plugvault.station.connection import Connection, FetchContract, Observe, Surroundings
from plugvault.station.events import Authorized
from plugvault.station.iso15118_2.answers import Offer
from plugvault.station.iso15118_2.paused import PausedSessions
from plugvault.station.iso15118_2.secc import Secc
from plugvault.station.reports import Connected, Ended, Listener, Report, Secured, TurnedAway
from plugvault.station.settings import SETTINGS, StationSettings
from plugvault.station.streams import PlainStream, TlsStream, close
from plugvault.tls import TlsError

BACKLOG = 1024  # connections that wait to be accepted
PORTS = range(49152, 65536)  # some vehicles refuse an SDP answer with a lower port
RECORDS = 10_000  # the latest authorizations, kept in memory; `bill` gets each one
_FETCHES = 64  # at once, at most
_HANDSHAKES = 4  # threads: a token signs one after the other

_log = logging.getLogger(__name__)


class Station:
    """A charging station on a TCP port.

    fetch_contract: CertificateInstallationReq (EXI as received) -> CertificateInstallationRes
    (EXI); a coroutine function, or a plain one, which then runs in a thread. Any exception, and no
    result in time, becomes ResponseCode FAILED.

    anchors: DER of MO and V2G roots. settings: see `StationSettings`. observe: (direction "in" or
    "out", message name, bytes of V2GTP, milliseconds since the message before it on this
    connection), called for each message. bill: called with the record of each authorization.
    report: called with (number of the connection, report), see `reports`.
    """

    def __init__(
        self,
        offer: Offer,
        anchors: Iterable[bytes],
        fetch_contract: FetchContract,
        settings: StationSettings = SETTINGS,
        *,
        observe: Observe | None = None,
        bill: Callable[[Authorized], object] | None = None,
        report: Listener | None = None,
    ) -> None:
        self.offer = offer
        self.anchors = tuple(anchors)
        self.settings = settings
        self.host, self.port = settings.host, settings.port
        self.records: list[Authorized] = []
        self._bill = bill
        self._report = report
        max_clients = settings.limits.max_clients
        self._fetches = ThreadPoolExecutor(min(max_clients, _FETCHES), "contract")
        self._handshakes = ThreadPoolExecutor(_HANDSHAKES, "handshake")
        self._around = Surroundings(
            secc=self._new_session,
            bill=self._keep,
            fetch_contract=fetch_contract,
            limits=settings.limits,
            observe=observe,
            faults=settings.faults,
            threads=self._fetches,
        )
        self._paused = PausedSessions()
        self._server: asyncio.Server | None = None
        self._numbers = itertools.count(1)
        self._waiting: set[asyncio.Task[Any]] = set()  # their handshake is not complete
        self._clients: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen; afterwards `port` is the actual port. Raises OSError."""
        listener = _listen(self.host, self.port)
        self._server = await asyncio.start_server(self._client, sock=listener, backlog=BACKLOG)
        self.port = listener.getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        connections = self._waiting | self._clients
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for threads in (self._fetches, self._handshakes):
            threads.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[tuple[str, int]]:
        """Run the station in a thread, for callers without asyncio. The context gives (host,
        port). Raises OSError."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="station", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result()
            try:
                yield self.host, self.port
            finally:
                asyncio.run_coroutine_threadsafe(self.close(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection: its handshake, then its session."""
        number, peer = next(self._numbers), _shown(writer.get_extra_info("peername"))
        captured = self._captured(writer)
        writer.transport.set_write_buffer_limits(0)  # `drain` waits until all is sent
        try:
            with self._place(self._waiting, number, peer):
                self._tell(number, Connected(peer))
                stream = await self._secured(reader, writer, captured, number)
            with self._place(self._clients, number, peer):
                session = Connection(stream, self._around, lambda it: self._tell(number, it))
                await session.run()
            stream.say_end()
        except (OSError, TlsError) as error:
            _log.info("connection of %s: %s", peer, error)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except Exception:  # noqa: BLE001 - one client's failure must not end the server
            _log.exception("a session failed; the station goes on")
        finally:
            await close(writer)
            if captured is not None:
                captured.close()

    @contextlib.contextmanager
    def _place(self, places: set[asyncio.Task[Any]], number: int, peer: str) -> Iterator[None]:
        """One of the places, while the context lasts. Raises ConnectionRefusedError."""
        if len(places) >= (limit := self.settings.limits.max_clients):
            _log.warning("%s is turned away: %d vehicles are connected", peer, len(places))
            self._tell(number, TurnedAway(peer, limit))
            raise ConnectionRefusedError("turned away")
        task = cast(asyncio.Task[Any], asyncio.current_task())  # each client has one
        places.add(task)
        try:
            yield
        finally:
            places.discard(task)

    async def _secured(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        captured: CapturedConnection | None,
        number: int,
    ) -> PlainStream:
        """The stream of a connection, its handshake complete. Raises TlsError, OSError."""
        wire = captured.wire if captured is not None else None
        settings = self.settings
        bandwidth, seconds = settings.faults.bandwidth, settings.limits.handshake_seconds
        if settings.tls is None:
            return PlainStream(reader, writer, wire, bandwidth)
        connection = settings.tls.connection()
        stream = TlsStream(reader, writer, connection, wire, bandwidth)
        try:
            handshake = await asyncio.wait_for(stream.handshake(self._handshakes), seconds)
        except (TlsError, OSError, TimeoutError) as error:
            text = str(error) or f"no TLS handshake within {seconds} s"
            self._tell(number, Ended(text, False))
            raise
        finally:
            if captured is not None:
                for line in connection.facts.keys:
                    captured.keylog(line)
        if handshake.trusted_ca_keys == "unmatched":
            _log.info("a vehicle names V2G roots, and none is above the station's certificate")
        self._tell(number, Secured(handshake))
        return stream

    def _captured(self, writer: asyncio.StreamWriter) -> CapturedConnection | None:
        if self.settings.capture is None:
            return None
        ends = (writer.get_extra_info(name) for name in ("sockname", "peername"))
        return self.settings.capture.connection(*ends)

    def _new_session(self, secure: bool, now_ms: int) -> Secc:
        settings = self.settings
        secc = settings.secc(
            self.offer,
            self.anchors,
            settings.clock,
            now_ms,
            sequence_timeout_ms=settings.limits.sequence_timeout_ms,
            secure=secure,
            insecure_contract=settings.insecure_contract,
        )
        secc.paused = self._paused
        return secc

    def _keep(self, record: Authorized) -> None:
        bounded.append(self.records, RECORDS, record)
        if self._bill is not None:
            self._bill(record)

    def _tell(self, number: int, report: Report) -> None:
        if self._report is not None:
            self._report(number, report)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: a free one of `PORTS`. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    ports = [port] if port else random.sample(PORTS, 100)
    for last, number in enumerate(ports, 1 - len(ports)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address[0], number, *address[2:]))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            if last == 0:
                raise
        else:
            return listener
    raise AssertionError("no port was tried")


def _shown(peer: Any) -> str:
    """An address with its port as text: [address]:port for IPv6."""
    if peer is None:
        return "a vehicle"
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
