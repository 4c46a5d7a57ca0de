"""A vehicle's session in which the station sends the message of a test case.

The station takes the SessionID of the case, so the message is sent byte for byte. A contract is
not checked here as a station checks it: the session notes the contract that the vehicle pays with,
and whether its AuthorizationReq verifies. The request after that gets FAILED, which ends the
session: there is no charge.
"""

import os
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from evcc.iso15118_2 import messages
from evcc.x509 import Certificate, CertificateError, parse
from plugvault.cases.case import Timing
from plugvault.station.engine import Body, Refusal, Signature
from plugvault.station.events import Step
from plugvault.station.faults import Faults, Pace
from plugvault.station.iso15118_2 import answers, payment, secc
from plugvault.station.iso15118_2.secc import Secc

_INSTALLATION = "CertificateInstallation"


@dataclass
class Attempt:
    """One message for a vehicle, and the vehicle's reaction.

    session: the SessionID, 8 bytes; None: a random one. is_asked: whether the message answers a
    request; without one it is sent unasked. hang: seconds within which the vehicle must end a
    session after an incomplete response. given: whether the message was sent. paid_with: DER of
    the contract that the vehicle pays with afterwards. verified: whether its AuthorizationReq is
    signed by that contract; None: there was none. note: the reason why the message was not sent.
    end: the end of the session, in words. seconds: from the message to the vehicle's reaction.
    """

    message: bytes
    session: bytes | None
    is_asked: bool
    timing: Timing
    hang: float
    given: bool = False
    paid_with: bytes | None = None
    verified: bool | None = None
    note: str = ""
    end: str = ""
    seconds: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)
    _given_at: float = 0.0

    def give(self) -> None:
        """Note that the message is sent now."""
        self.given, self._given_at = True, time.monotonic()

    def react(self) -> None:
        """Note the vehicle's first reaction after the message."""
        if self.given and not self.seconds:
            self.seconds = time.monotonic() - self._given_at

    def finish(self, end: str) -> None:
        """Note the end of the session. end: its reason, "" for a SessionStop."""
        self.react()
        self.end = end or "SessionStop"
        self.over.set()

    @property
    def faults(self) -> Faults:
        """The station's faults that give the message its timing."""
        timing = self.timing
        pace = {}
        if timing.seconds or timing.part < 1:
            pace[_INSTALLATION] = Pace(timing.seconds, timing.part, timing.end, self.hang)
        return Faults(delay={_INSTALLATION: timing.delay}, pace=pace)


class CaseSecc(Secc):
    """The station's half of the session of an `Attempt`."""

    def __init__(self, attempt: Attempt, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.attempt = attempt
        self.random = self._octets
        self.faults = attempt.faults
        self.add_rows(_ALLOWED, {})
        if not attempt.is_asked:
            self.offer = replace(self.offer, certificate_service=False)

    def _octets(self, length: int) -> bytes:
        """Random bytes, but the SessionID is that of the case."""
        session = self.attempt.session
        return session if session and length == len(session) == 8 else os.urandom(length)

    def fetched(self, response: bytes | None, now_ms: int) -> Step:
        self.state, self.fetching = secc.DETAILS, ""
        self.attempt.give()
        return self.step(self.send(_INSTALLATION + "Res", self.attempt.message, now_ms))

    def send(self, name: str, payload: bytes, now_ms: int) -> list[bytes]:
        unasked = []
        if name == "ServiceDiscoveryRes" and not self.attempt.is_asked:
            self.attempt.give()
            unasked = super().send(_INSTALLATION + "Res", self.attempt.message, now_ms)
        return unasked + super().send(name, payload, now_ms)


def _pay(session: CaseSecc, body: Body, _: Signature) -> tuple[Body, str]:
    attempt = session.attempt
    if not attempt.given:
        attempt.note = "it asks for no contract, and pays with one that it has"
        raise Refusal("FAILED", attempt.note)
    attempt.react()
    attempt.paid_with = messages.certificates(body["ContractSignatureCertChain"])[0]
    session.challenge = session.random(16)
    return answers.payment_details(session.challenge, int(session.clock())), "challenged"


def _authorize(session: CaseSecc, body: Body, signed: Signature) -> tuple[Body, str]:
    attempt, challenge = session.attempt, session.challenge
    attempt.verified = False
    payment.check_authorization(body, signed, challenge, _contract(attempt).point)
    attempt.verified = True
    return answers.authorization(), "authorized"


def _contract(attempt: Attempt) -> Certificate:
    try:
        return parse(attempt.paid_with or b"")
    except CertificateError as error:
        raise Refusal("FAILED_SignatureError", f"the contract's certificate: {error}") from error


def _end(session: CaseSecc, body: Body, _: Signature) -> tuple[Body, str]:
    raise Refusal("FAILED", "the test case is over")


_ALLOWED = {
    secc.CONTRACT: {**secc.ALLOWED[secc.CONTRACT], "PaymentDetailsReq": _pay},
    secc.DETAILS: {**secc.ALLOWED[secc.DETAILS], "PaymentDetailsReq": _pay},
    secc.AUTHORIZATION: {**secc.ALLOWED[secc.AUTHORIZATION], "AuthorizationReq": _authorize},
    secc.AUTHORIZED: {
        **secc.ALLOWED[secc.AUTHORIZED],
        "ChargeParameterDiscoveryReq": _end,
    },
}
