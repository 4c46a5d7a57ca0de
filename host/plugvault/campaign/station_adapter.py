"""`station:IF[:COMMAND]`: this computer is the charging station; the ECU stays as it is.

The vehicle must trust the V2G and MO roots of the cases beforehand. Each message is the
CertificateInstallationRes of a session of its own: the vehicle is plugged in for it, by COMMAND or
by a person, and asks for a contract. It searches by SDP, and gets TLS or plain TCP as it asks.

accepted   it then pays with the contract of the message; its AuthorizationReq is the proof
refused    it stops, asks again, is silent, or pays with an earlier contract
no-request no vehicle came, or it asked for no contract: nothing is known about the message
"""

import asyncio
import contextlib
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Set
from dataclasses import dataclass, replace
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from evcc import exi
from evcc.iso15118_2 import messages
from evcc.network import sdp
from plugvault import guardian
from plugvault.campaign.case_session import Attempt, CaseSecc
from plugvault.campaign.cases import Campaign, CampaignError
from plugvault.campaign.vocabulary import (
    ACCEPTED,
    REFUSED,
    STATION,
    Answer,
    Begin,
    Hello,
    ModuleError,
)
from plugvault.cases.case import Timing
from plugvault.interfaces import InterfaceError, LinkLocal, wait
from plugvault.station import Offer, Station, StationSettings
from plugvault.station.connection import STILL_WAITING
from plugvault.station.discovery import Discovery
from plugvault.station.events import Message
from plugvault.station.limits import Limits
from plugvault.station.reports import Ended, Report
from plugvault.tls import Identity, StationTls, TlsError

BY_COMMAND, BY_HAND = 60.0, 600.0  # seconds until a vehicle must connect
_ANSWERS = 5  # of a vehicle, at most, after the message
_END_SECONDS = 10.0
_LOOK = 0.2  # seconds between two looks at COMMAND
_REACTIONS = ("SessionStopReq", "CertificateInstallationReq")


@dataclass(frozen=True)
class Times:
    """Times in seconds. arrival: until a vehicle must connect. silence: the longest pause of a
    vehicle in its session. hang: after an incomplete response, until a vehicle must have ended its
    session. factor: multiplies the times of the TI cases."""

    arrival: float
    silence: float
    hang: float = 12.0
    factor: float = 1.0


class StationModule:
    """A vehicle at this computer's station.

    local: the interface. identity: of the station's TLS. plug: called before each message with the
    id of its case; the vehicle connects while it runs, or afterwards. failure: why no vehicle will
    come any more, "" while one may. discovers: whether to answer SDP. Raises TlsError, OSError.
    """

    def __init__(
        self,
        local: LinkLocal,
        identity: Identity,
        plug: Callable[[str], object],
        times: Times,
        discovers: bool = True,
        failure: Callable[[], str] = lambda: "",
    ) -> None:
        self._plug, self._times, self._failure = plug, times, failure
        self._interface = local.interface
        self._attempt: Attempt | None = None
        self._session: tuple[int, int] | None = None  # the connection of the attempt's session
        self._begin: Begin | None = None
        self._offered: set[bytes] = set()  # contracts of the messages so far
        self._stack = contextlib.ExitStack()
        with self._stack:
            self._loop = self._stack.enter_context(_Loop())
            self.ports = self._loop.call(self._open(local, identity, discovers))
            self._stack.callback(lambda: self._loop.call(self._shut()))
            self._stack = self._stack.pop_all()

    async def _open(self, local: LinkLocal, identity: Identity, discovers: bool) -> dict[int, int]:
        """The ports by their security, as SDP has it."""
        self._stations = {
            security: self._station(security, local, tls)
            for security, tls in ((sdp.TLS, StationTls([identity])), (sdp.NO_TLS, None))
        }
        for station in self._stations.values():
            await station.start()
        ports = {security: station.port for security, station in self._stations.items()}
        self._discovery = Discovery(local, ports)
        if discovers:
            await self._discovery.start()
        return ports

    async def _shut(self) -> None:
        self._discovery.close()
        for station in self._stations.values():
            await station.close()

    def _station(self, security: int, local: LinkLocal, tls: StationTls | None) -> Station:
        settings = StationSettings(
            host=local.scoped,
            tls=tls,
            insecure_contract=True,
            limits=Limits(1, sequence_timeout_ms=int(self._times.silence * 1000)),
            secc=self._secc,
        )
        return Station(
            Offer(),
            (),
            lambda request: b"",  # the session has the message
            settings,
            report=lambda number, report: self._report((security, number), report),
        )

    def _secc(self, *arguments: Any, **settings: Any) -> CaseSecc:
        attempt = self._attempt
        if attempt is None or attempt.given:
            raise ConnectionRefusedError("no test case waits for a vehicle")
        return CaseSecc(attempt, *arguments, **settings)

    def _report(self, connection: tuple[int, int], report: Report) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        match report:
            case Message(direction="in", name="supportedAppProtocolReq"):
                self._session = connection
            case Message(direction="in") if report.name in _REACTIONS:
                attempt.react()
            case Ended() if attempt.given and connection == self._session:
                attempt.finish(report.reason)
            case Ended():
                attempt.note = attempt.note or report.reason

    # -- the module --

    def hello(self) -> Hello:
        return Hello(f"the vehicle at {self._interface}", can=frozenset({STATION}))

    def begin(self, begin: Begin) -> None:
        self._begin = begin

    def install(self, message: bytes) -> Answer:
        begin = self._begin
        if begin is None:
            raise ModuleError("unable", "no case has begun")
        contract, header = _read(message)
        attempt = Attempt(
            message,
            begin.session or header,
            begin.session is not None,
            _scaled(begin.timing or Timing(), self._times.factor),
            self._times.hang,
        )
        self._attempt = attempt
        try:
            self._plug(begin.case)
            self._await_vehicle(attempt)
            if attempt.given:
                timing, silence = attempt.timing, self._times.silence
                attempt.over.wait(timing.delay + timing.seconds + _ANSWERS * silence)
        finally:
            self._attempt = None
        if not attempt.given:
            causes = [text for text in (attempt.note, self._failure()) if text]
            text = "; ".join(causes) or f"no vehicle within {self._times.arrival:g} s"
            raise ModuleError("no-request", text)
        if attempt.end == STILL_WAITING:
            raise ModuleError("timeout", f"{STILL_WAITING} after {self._times.hang:g} s")
        answer = judged(attempt, contract, self._offered)
        self._offered |= {contract} if contract else set()
        return answer

    def _await_vehicle(self, attempt: Attempt) -> None:
        """Wait until the session is over, the time of arrival has passed, or no vehicle comes."""
        deadline = time.monotonic() + self._times.arrival
        while not attempt.over.wait(_LOOK) and time.monotonic() < deadline:
            if not attempt.given and self._failure():
                return

    def sign(self, emaid: str, digest: bytes) -> bytes:
        raise ModuleError("unable", "a vehicle at a station signs no other message")

    def state(self) -> str:
        raise ModuleError("unable", "a station does not see the vehicle's state")

    def ends_with(self, end: Callable[[], object]) -> None:
        """Register a function that `close` calls."""
        self._stack.callback(end)

    def close(self) -> None:
        """Close the station and its ports."""
        self._stack.close()


def judged(attempt: Attempt, contract: bytes | None, offered: Set[bytes]) -> Answer:
    """The vehicle's answer to a message.

    contract: the certificate in the message, DER; None where it cannot be read. Then a contract
    that is not among `offered`, the contracts of earlier messages, counts as that of this message.
    """
    paid = attempt.paid_with
    milliseconds = round(attempt.seconds * 1000, 3)
    if paid is None:
        return Answer(REFUSED, reason=attempt.end, milliseconds=milliseconds)
    is_new = paid == contract if contract else paid not in offered
    if not is_new:
        reason, signs = "it pays with an earlier contract", attempt.verified
        return Answer(REFUSED, reason=reason, signs=signs, milliseconds=milliseconds)
    reason = "" if attempt.verified else f"it pays with this contract, then: {attempt.end}"
    signs = attempt.verified is True
    return Answer(ACCEPTED, reason=reason, signs=signs, milliseconds=milliseconds)


class Command:
    """A command that plugs the vehicle in; it may run as long as the session."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, case: str) -> None:
        self.close()
        try:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            guardian.watch(self._process)
        except OSError as error:
            raise CampaignError("module", f"{self._words[0]}: {error.strerror}") from error

    def failure(self) -> str:
        """The exit status of a command that has failed, in words; "" otherwise."""
        status = self._process.poll() if self._process is not None else None
        if self._process is not None and status is not None:
            guardian.release(self._process)
        return f"{self._words[0]} ended with exit status {status}" if status else ""

    def close(self) -> None:
        """Wait for the command's end, and end it when it takes too long."""
        if self._process is not None:
            self._end(self._process)
            guardian.release(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # it may ignore the first signal
                process.wait()


class _Loop:
    """An event loop in a thread, while the context lasts."""

    def __enter__(self) -> "_Loop":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine. Raises its error."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def open_station(address: str, seconds: float, campaign: Campaign) -> StationModule:
    """The vehicle at a station on an interface. address: IF[:COMMAND]; seconds: of a vehicle's
    silence. Raises CampaignError: "module", "cases"."""
    interface, _, command = address.partition(":")
    try:
        local = wait(interface)
        words = shlex.split(command)
        if not words:
            return StationModule(local, identity(campaign), _ask, Times(BY_HAND, seconds))
        plug = Command(words)
        times = Times(BY_COMMAND, seconds)
        module = StationModule(local, identity(campaign), plug, times, failure=plug.failure)
    except (InterfaceError, TlsError, OSError, ValueError) as error:
        raise CampaignError("module", f"station:{address}: {error}") from error
    module.ends_with(plug.close)
    return module


def _ask(case: str) -> None:
    print(f"{case}: plug the vehicle in, and let it ask for a contract", file=sys.stderr)


def identity(campaign: Campaign) -> Identity:
    """The station's certificate and key in the folder of the cases. Raises
    CampaignError("cases")."""
    try:
        key = cast(ec.EllipticCurvePrivateKey, load_pem_private_key(campaign.station, None))
        leaf, *subs = (
            certificate.public_bytes(Encoding.DER)
            for certificate in x509.load_pem_x509_certificates(campaign.station)
        )
    except ValueError as error:
        text = "station.pem of the cases holds no key and certificates; `plugvault cases make`"
        raise CampaignError("cases", text) from error
    root = dict(campaign.trust)["V2G"]

    def sign(digest: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return Identity(leaf, tuple(subs), root, sign)


def _scaled(timing: Timing, factor: float) -> Timing:
    return replace(timing, delay=timing.delay * factor, seconds=timing.seconds * factor)


def _read(message: bytes) -> tuple[bytes | None, bytes | None]:
    """(the contract's certificate, the SessionID) of a message; None where it cannot be read."""
    try:
        session, _, body, _ = messages.opened(exi.decode(message))
        return messages.certificates(body["ContractSignatureCertChain"])[0], session
    except (exi.ExiError, KeyError, TypeError, AttributeError):
        return None, None
