"""The station's TCP server: one `Secc` per connection, limits, the clock and the contract fetch.

The messages and their order are `secc`'s. A client's error ends at most its own connection. No SDP
and no TLS yet: the package's docstring says where they go.
"""

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator

from plugvault import bounded
from plugvault.station.engine import CLOSED, SEQUENCE_TIMEOUT_MS
from plugvault.station.events import Authorized, Closed, Event, Fetch, Message, Step
from plugvault.station.iso15118_2.answers import Offer
from plugvault.station.iso15118_2.secc import Secc

FETCH_SECONDS = 4.5  # the vehicle waits 5 s for a CertificateInstallationRes
MAX_CLIENTS = 8
RECORDS = 10_000  # the latest authorizations, kept in memory; `bill` gets each one
_READ_BYTES = 4096

_log = logging.getLogger(__name__)

FetchContract = Callable[[bytes], bytes | Awaitable[bytes]]
Observe = Callable[[str, str, int, float], None]


class Station:
    """A charging station on a TCP port.

    fetch_contract: CertificateInstallationReq (EXI as received) -> CertificateInstallationRes
    (EXI); a coroutine function, or a plain one, which then runs in a thread. Any exception, and no
    result within `fetch_seconds`, becomes ResponseCode FAILED.
    observe: (direction "in" or "out", message name, bytes on the wire, milliseconds since the
    message before it on this connection), called for each message.
    bill: called with the record of each authorization. clock: unix seconds.
    insecure_contract: payment by contract and the certificate service though there is no TLS.
    """

    def __init__(
        self,
        offer: Offer,
        anchors: Iterable[bytes],
        fetch_contract: FetchContract,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        observe: Observe | None = None,
        bill: Callable[[Authorized], object] | None = None,
        clock: Callable[[], float] = time.time,
        fetch_seconds: float = FETCH_SECONDS,
        sequence_timeout_ms: int = SEQUENCE_TIMEOUT_MS,
        insecure_contract: bool = False,
    ) -> None:
        self.offer = offer
        self.anchors = tuple(anchors)
        self.host, self.port = host, port
        self.records: list[Authorized] = []
        self._fetch_contract = fetch_contract
        self._observe = observe
        self._bill = bill
        self._clock = clock
        self._fetch_seconds = fetch_seconds
        self._sequence_timeout_ms = sequence_timeout_ms
        self._insecure_contract = insecure_contract
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; `port` is then the actual one."""
        self._server = await asyncio.start_server(self._client, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[tuple[str, int]]:
        """Run the station in a thread, for callers without asyncio; gives (host, port)."""
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
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._session(reader, writer)
        except OSError as error:
            _log.info("connection lost: %s", error)
        except Exception:  # noqa: BLE001 - one client's failure must not end the server
            _log.exception("a session failed; the station goes on")
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secc = Secc(
            self.offer,
            self.anchors,
            self._clock,
            _ms(),
            sequence_timeout_ms=self._sequence_timeout_ms,
            insecure_contract=self._insecure_contract,
        )
        meter = _Meter(self._observe)
        while secc.state != CLOSED:
            step = await self._read(secc, reader, meter)
            if step is None:
                return
            request = await self._carry_out(step, writer, meter)
            if request is not None:
                response = await self._fetch(request)
                await self._carry_out(secc.fetched(response, _ms()), writer, meter)

    async def _carry_out(
        self, step: Step, writer: asyncio.StreamWriter, meter: "_Meter"
    ) -> bytes | None:
        """Handle the events, then send the frames. Returns the request of a `Fetch`, or None."""
        frames, events = step
        request = self._handle(events, meter)  # an authorization is billed before it is sent
        for frame in frames:
            writer.write(frame)
        # a client that does not read must not block the station or fill its memory
        await asyncio.wait_for(writer.drain(), self._sequence_timeout_ms / 1000)
        return request

    async def _read(
        self, secc: Secc, reader: asyncio.StreamReader, meter: "_Meter"
    ) -> Step | None:
        """The next step of the session; None when the vehicle has gone."""
        deadline = secc.deadline
        seconds = None if deadline is None else max(deadline - _ms(), 0) / 1000
        try:
            data = await asyncio.wait_for(reader.read(_READ_BYTES), seconds)
        except TimeoutError:
            return secc.timeout(_ms())
        meter.arrived = time.monotonic()
        return secc.receive(data, _ms()) if data else None

    def _handle(self, events: list[Event], meter: "_Meter") -> bytes | None:
        """The request to fetch a contract for, or None."""
        request = None
        for event in events:
            match event:
                case Message():
                    meter.count(event)
                case Fetch():
                    request = event.request
                case Authorized():
                    bounded.append(self.records, RECORDS, event)
                    if self._bill is not None:
                        self._bill(event)
                case Closed() if event.reason:
                    _log.info("session closed: %s", event.reason)
        return request

    async def _fetch(self, request: bytes) -> bytes | None:
        try:
            return await asyncio.wait_for(self._fetched(request), self._fetch_seconds)
        except TimeoutError:
            _log.warning("no contract within %s s", self._fetch_seconds)
        except Exception:  # noqa: BLE001 - the vehicle gets an answer after any failure
            _log.exception("the contract could not be fetched")
        return None

    async def _fetched(self, request: bytes) -> bytes:
        if inspect.iscoroutinefunction(self._fetch_contract):
            response: bytes = await self._fetch_contract(request)
            return response
        answer = await asyncio.to_thread(self._fetch_contract, request)
        return await answer if inspect.isawaitable(answer) else answer


class _Meter:
    """Reports one connection's messages to the observer, with the time between them."""

    def __init__(self, observe: Observe | None) -> None:
        self._observe = observe
        self.arrived = self._last = time.monotonic()

    def count(self, message: Message) -> None:
        now = self.arrived if message.direction == "in" else time.monotonic()
        if self._observe is not None:
            self._observe(message.direction, message.name, message.size, (now - self._last) * 1000)
        self._last = now


def _ms() -> int:
    return time.monotonic_ns() // 1_000_000
