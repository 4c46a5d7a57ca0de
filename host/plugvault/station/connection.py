"""One vehicle's connection: the TLS handshake, the session, its clock and the contract fetch.

Faults and observers take effect here; the messages and their order are `secc`'s.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from plugvault.station.engine import CLOSED
from plugvault.station.events import (
    Authorized,
    Charged,
    Charging,
    Closed,
    Event,
    Fetch,
    Message,
    Paused,
    Step,
)
from plugvault.station.faults import RESET, SILENCE, Faults, Pace
from plugvault.station.iso15118_2.performance import PERFORMANCE_MS
from plugvault.station.iso15118_2.secc import Secc
from plugvault.station.limits import Limits
from plugvault.station.reports import Ended, Report
from plugvault.station.streams import PlainStream

_log = logging.getLogger(__name__)

STILL_WAITING = "the vehicle still waits"  # for the rest of a response that is never complete
_PIECES = 20  # of a response that is sent slowly

FetchContract = Callable[[bytes], bytes | Awaitable[bytes]]
Observe = Callable[[str, str, int, float], None]


@dataclass(frozen=True)
class Surroundings:
    """The settings that all connections of a station share: see `server.Station`.

    secc: (whether the connection is secure, milliseconds of a monotonic clock) -> a new session.
    bill: called with the record of an authorization. threads: for fetches that are plain
    functions.
    """

    secc: Callable[[bool, int], Secc]
    bill: Callable[[Authorized], object]
    fetch_contract: FetchContract
    limits: Limits
    observe: Observe | None
    faults: Faults
    threads: Executor


class Connection:
    """One vehicle's connection after its handshake. report: called with each report for a display,
    see `reports`."""

    def __init__(
        self,
        stream: PlainStream,
        around: Surroundings,
        report: Callable[[Report], object],
    ) -> None:
        self._stream = stream
        self._around = around
        self._report = report
        self._meter = Meter(around.observe)
        self._end = "the vehicle closed the connection"
        self._authorized = False

    async def run(self) -> None:
        """Carry the session to its end. Raises OSError, TlsError."""
        secc = self._around.secc(self._stream.is_secure, now_ms())
        try:
            while secc.state != CLOSED:
                step = await self._read(secc)
                if step is None:
                    return
                request = await self._carry_out(secc, step)
                if request is not None:
                    response = await self._fetch(request)
                    await self._carry_out(secc, secc.fetched(response, now_ms()))
        except Exception as error:
            self._end = str(error) or type(error).__name__
            raise
        finally:
            self._report(Ended(self._end, self._authorized))

    async def _read(self, secc: Secc) -> Step | None:
        """The next step of the session; None when the vehicle has gone."""
        deadline = secc.deadline
        seconds = None if deadline is None else max(deadline - now_ms(), 0) / 1000
        try:
            data = await asyncio.wait_for(self._stream.read(), seconds)
        except TimeoutError:
            return secc.timeout(now_ms())
        self._meter.arrived = time.monotonic()
        return secc.receive(data, now_ms()) if data else None

    async def _carry_out(self, secc: Secc, step: Step) -> bytes | None:
        """Handle the events, then send the frames. Returns the request of a `Fetch`, or None."""
        frames, events = step
        faults = secc.faults or self._around.faults
        # An authorization is billed before it is sent.
        request, responses = self._handle(events, iter(frames), faults)
        for name, frame in responses:
            self._log_late(name)
            await asyncio.sleep(faults.seconds(name))
            if faults.drops(name):
                self._stream.abort()
                raise ConnectionAbortedError(f"dropped in place of {name}: a fault")
            if (pace := faults.pace_of(name)) is not None:
                await self._send_slowly(name, frame, pace)
            else:
                await self._send(frame)
            if (faults.code(name) or "").upper().startswith("FAILED") and secc.state != CLOSED:
                secc.close(f"{name} with {faults.code(name)}: a fault")
                self._handle(secc.step([])[1], iter(()), faults)
        return request

    def _log_late(self, name: str) -> None:
        """A response that is later than the standard has it, without the delay of a fault."""
        ms = (time.monotonic() - self._meter.arrived) * 1000
        limit = PERFORMANCE_MS.get(name.removesuffix("Res"), ms)
        if ms > limit:
            _log.info("%s after %.0f ms; ISO 15118-2 has %d ms", name, ms, limit)

    async def _send(self, data: bytes) -> None:
        # A vehicle that does not read must not block the station or fill its memory.
        await asyncio.wait_for(self._stream.write(data), self._silence)

    async def _send_slowly(self, name: str, frame: bytes, pace: Pace) -> None:
        """Send a response, or a part of it, in pieces. Raises ConnectionAbortedError after a
        part."""
        data = frame[: int(len(frame) * pace.part)]
        size = max(len(data) // _PIECES, 1)
        for start in range(0, len(data), size):
            await self._send(data[start : start + size])
            await asyncio.sleep(pace.seconds / _PIECES)
        if len(data) == len(frame):
            return
        if pace.end == SILENCE:
            try:
                await asyncio.wait_for(self._stream.read(), pace.silence)
            except TimeoutError as error:
                raise ConnectionAbortedError(STILL_WAITING) from error
        elif pace.end == RESET:
            self._stream.abort()
        raise ConnectionAbortedError(f"{name} was not sent whole: a fault")

    @property
    def _silence(self) -> float:
        """Seconds in which a vehicle has to read, or to send its next request."""
        return self._around.limits.sequence_timeout_ms / 1000

    def _handle(
        self, events: list[Event], frames: Iterator[bytes], faults: Faults
    ) -> tuple[bytes | None, list[tuple[str, bytes]]]:
        """(the request to fetch a contract for, or None; the responses, with their names)."""
        request, responses = None, []
        for event in events:
            match event:
                case Message(direction="out"):
                    frame = faults.changed(event.name, next(frames))
                    responses.append((event.name, frame))
                    self._count(replace(event, size=len(frame)))
                case Message():
                    self._count(event)
                case Fetch():
                    request = event.request
                case Authorized():
                    self._authorized = True
                    self._around.bill(event)
                    self._report(event)
                case Charging() | Charged() | Paused():
                    self._authorized = True
                    self._report(event)
                case Closed():
                    self._end = event.reason
                    if event.reason:
                        _log.info("session closed: %s", event.reason)
        return request, responses

    def _count(self, message: Message) -> None:
        self._meter.count(message)
        self._report(message)

    async def _fetch(self, request: bytes) -> bytes | None:
        seconds = self._around.limits.fetch_seconds
        try:
            return await asyncio.wait_for(self._fetched(request), seconds)
        except TimeoutError:
            _log.warning("no contract within %s s", seconds)
        except Exception:  # noqa: BLE001 - the vehicle gets an answer after any failure
            _log.exception("the contract could not be fetched")
        return None

    async def _fetched(self, request: bytes) -> bytes:
        fetch = self._around.fetch_contract
        if inspect.iscoroutinefunction(fetch):
            response: bytes = await fetch(request)
            return response
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._around.threads, fetch, request)
        return await answer if inspect.isawaitable(answer) else answer


class Meter:
    """Reports one connection's messages to the observer, with the time between them in
    milliseconds."""

    def __init__(self, observe: Observe | None) -> None:
        self._observe = observe
        self.arrived = self._last = time.monotonic()

    def count(self, message: Message) -> None:
        """Report a message, with the milliseconds since the message before it."""
        now = self.arrived if message.direction == "in" else time.monotonic()
        if self._observe is not None:
            self._observe(message.direction, message.name, message.size, (now - self._last) * 1000)
        self._last = now


def now_ms() -> int:
    """Milliseconds of a monotonic clock."""
    return time.monotonic_ns() // 1_000_000
