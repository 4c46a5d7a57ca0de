"""The maker's end of the channel to one car: mutual authentication, then requests.

`evcc.telematics` defines the messages. A message that does not authenticate is ignored, as line
noise is; a missing answer is a "timeout", after which `connect` starts a new session.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from evcc import revocation, x509
from evcc import telematics as wire
from evcc.errors import EvccError
from evcc.record import RecordError, pack, unpack
from plugvault.pki.verify import verify_p256

_TIMEOUT = 20.0  # seconds: a board without hardware for it takes long to verify


class TelematicsError(EvccError):
    """A request that the car did not carry out.

    "refused": `detail` has the car's reason: "clock", until the car knows the time; "resources",
    where its heap, stack, flash or token is full; "storage", where its flash or disk cannot be
    written; "limited", while its vault opens no more keys; "unavailable" or "token-missing", while
    its vault does not work. "rejected": a failed installation, without a reason on the wire.
    "stranger": the peer is not this car. "unable": the car does not answer, and sends the reason
    without a signature. "timeout": no answer. "protocol": an authenticated answer that is
    malformed. "not-connected": a request before `connect`.
    """

    REASONS = ("not-connected", "timeout", "stranger", "refused", "rejected", "protocol", "unable")


class Key(Protocol):
    """The maker's telematics key; `plugvault.cryptoki.ec_keys.TokenKey` is one."""

    @property
    def point(self) -> bytes:
        """The public key: 65 bytes, 0x04‖X‖Y."""

    def sign_digest(self, digest: bytes) -> bytes:
        """An ECDSA signature of 64 bytes, r‖s, over a SHA-256 digest (32 bytes)."""


@dataclass(frozen=True)
class ContractStatus:
    """A contract in the car. not_before, not_after: Unix seconds. custody: of its key. active: the
    car pays with it. lost: its key is no longer in the token."""

    emaid: str
    operator: str
    not_before: int
    not_after: int
    custody: str
    active: bool
    lost: bool


@dataclass(frozen=True)
class VehicleStatus:
    """The state of a car. certified: it has a provisioning certificate. anchors: number of V2G
    roots. custody: of its provisioning key. locked: no installation before `unlock`. envelopes:
    number of opened ones. unnamed_keys: number of keys in its token that belong to no contract.
    time: the car's, 0 while it does not know the time; revoked: date of its list of revoked
    certificates, 0 for none; both in Unix seconds."""

    pcid: str
    certified: bool
    region: str
    anchors: int
    contracts: int
    custody: str
    locked: bool
    envelopes: int
    unnamed_keys: int
    time: int
    revoked: int


class Maker:
    """The maker's end of the channel.

    send: sends one message to the car. receive(seconds): the next message from it, or None when
    that time is over. car: the point of the car's provisioning key, 65 bytes; None in the factory,
    where `connect` learns it. timeout: seconds for each answer.

    Every method raises TelematicsError.
    """

    def __init__(
        self,
        key: Key,
        send: Callable[[bytes], None],
        receive: Callable[[float], bytes | None],
        car: bytes | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._key = key
        self._send = send
        self._receive = receive
        self._timeout = timeout
        self._session: bytes | None = None
        self._counter = 0
        self.car = car

    def connect(self) -> bytes:
        """Authenticate both ends in a new session. Returns the car's point, 65 bytes.

        Raises: TelematicsError("timeout" | "stranger").
        """
        self._session = None
        nonce = os.urandom(wire.NONCE_BYTES)
        self._send(bytes([wire.HELLO]) + nonce)
        challenge = self._await(wire.CHALLENGE, wire.NONCE_BYTES)
        nonces = (nonce, challenge)
        point = self._key.point
        proof = self._key.sign_digest(wire.transcript(wire.TO_CAR, *nonces, point))
        self._send(bytes([wire.MAKER_PROOF]) + proof)
        answer = self._await(wire.CAR_PROOF, wire.POINT_BYTES + wire.SIGNATURE_BYTES)
        car, signature = answer[: wire.POINT_BYTES], answer[wire.POINT_BYTES :]
        digest = wire.transcript(wire.TO_MAKER, *nonces, point, car)
        if not verify_p256(car, digest, signature):
            raise TelematicsError("stranger", "its signature is not valid")
        if self.car not in (None, car):
            raise TelematicsError("stranger", "another car's key")
        self.car = car
        self._session = wire.transcript(b"S", *nonces, point, car)
        self._counter = 0
        return car

    def csr(self, pcid: str, organisation: str, country: str = "") -> bytes:
        """The car's signing request for its provisioning key: PKCS#10, DER."""
        fields = [text.encode() for text in (pcid, organisation, country)]
        with _well_formed():
            (request,) = self._ask("provision.csr", *fields)
        return request

    def install_certificate(self, chain: Sequence[bytes]) -> None:
        """Install the provisioning certificate and its sub-CAs: DER, leaf first."""
        self._ask("provision.install", *chain)

    def install_trust(self, region: str, anchors: Sequence[tuple[str, bytes]]) -> None:
        """Install the trust anchors of a sales region: ("V2G" | "MO" | "OEM", DER). They replace
        all others."""
        flat = [part for kind, der in anchors for part in (kind.encode(), der)]
        self._ask("trust.install", region.encode(), *flat)

    def offer_contract(self, emaid: str, session_id: bytes) -> None:
        """Announce a contract, sealed in a response with that session ID. The car refuses it when
        it has no room."""
        self._ask("contract.offer", emaid.encode(), session_id)

    def install_contract(self, response: bytes) -> str:
        """Deliver the announced contract: the CertificateInstallationRes, EXI.

        Returns the custody level of the contract key. Raises: TelematicsError("rejected").
        """
        with _well_formed():
            (custody,) = self._ask("contract.install", response)
            return custody.decode()

    def choose_contract(self, emaid: str) -> None:
        """Make a contract the one that the car pays with. "": the car pays with none."""
        self._ask("contract.choose", emaid.encode())

    def remove_contract(self, emaid: str) -> None:
        """Remove a contract from the car."""
        self._ask("contract.remove", emaid.encode())

    def contracts(self) -> list[ContractStatus]:
        """The contracts in the car."""
        with _well_formed():
            return [_contract_status(entry) for entry in self._ask("contract.list")]

    def status(self) -> VehicleStatus:
        """The state of the car."""
        with _well_formed():
            texts = [field.decode() for field in self._ask("status")]
            pcid, certified, region, anchors, contracts, custody, locked, *numbers = texts
            envelopes, unnamed_keys, now, revoked = map(int, numbers)
            return VehicleStatus(
                pcid=pcid,
                certified=bool(certified),
                region=region,
                anchors=int(anchors),
                contracts=int(contracts),
                custody=custody,
                locked=bool(locked),
                envelopes=envelopes,
                unnamed_keys=unnamed_keys,
                time=now,
                revoked=revoked,
            )

    def set_time(self, now: int) -> None:
        """Set the time by which the car checks certificates, forward or backward. now: Unix
        seconds."""
        start = time.monotonic()
        try:
            self._ask("time.set", now.to_bytes(4, "big"))
        except TelematicsError as error:
            if (error.reason, error.detail) != ("refused", "late"):
                raise
            # The session was idle for too long, and the refusal is a fresh challenge.
            now += int(time.monotonic() - start)
            self._ask("time.set", now.to_bytes(4, "big"))

    def install_revoked(
        self, certificates: Iterable[bytes], issued: int, until: int = revocation.NEVER
    ) -> None:
        """Replace the list of revoked certificates (DER).

        issued: Unix seconds, not before that of the last list. until: Unix seconds, after which
        the car installs nothing without a newer list.
        """
        parsed = [x509.parse(der) for der in certificates]
        names = [revocation.name(certificate.issuer, certificate.serial) for certificate in parsed]
        dates = [date.to_bytes(4, "big") for date in (issued, until)]
        self._ask("revoked.install", *dates, *names)

    def unlock(self) -> None:
        """Allow installations again after too many keys that did not match their certificates."""
        self._ask("contract.unlock")

    def discard_keys(self) -> None:
        """Destroy the keys in the car's token that none of its contracts names."""
        self._ask("keys.discard")

    def _ask(self, name: str, *fields: bytes) -> list[bytes]:
        """Send one request, in pieces if it is long. Returns the fields of its answer."""
        payload = pack([name.encode(), *fields])
        if len(payload) <= wire.PIECE:
            return self._exchange(payload)
        total = len(payload).to_bytes(4, "big")
        answer = self._exchange(pack([b"begin", total, hashlib.sha256(payload).digest()]))
        for start in range(0, len(payload), wire.PIECE):
            piece = payload[start : start + wire.PIECE]
            answer = self._exchange(pack([b"piece", start.to_bytes(4, "big"), piece]))
        return answer

    def _exchange(self, payload: bytes) -> list[bytes]:
        if self._session is None or self.car is None:
            raise TelematicsError("not-connected")
        session, counter, car = self._session, self._counter, self.car
        self._send(wire.seal(session, wire.TO_CAR, counter, payload, self._key.sign_digest))
        deadline = time.monotonic() + self._timeout
        while True:
            record = self._next(deadline)
            answer = wire.unseal(record, session, wire.TO_MAKER, counter, car, verify_p256)
            if answer is not None:
                break
        self._counter += 1
        with _well_formed():
            result, *fields = unpack(answer)
        if result == b"rejected":
            raise TelematicsError("rejected")
        if result != b"ok":
            raise TelematicsError("refused", b" ".join(fields).decode(errors="replace"))
        return fields

    def _await(self, kind: int, length: int) -> bytes:
        """The body of the next message of this kind and length."""
        deadline = time.monotonic() + self._timeout
        while True:
            message = self._next(deadline)
            if len(message) == 1 + length and message[0] == kind:
                return message[1:]

    def _next(self, deadline: float) -> bytes:
        remaining = deadline - time.monotonic()  # holds also while other messages arrive
        try:
            message = self._receive(remaining) if remaining > 0 else None
            if message is None:
                raise TelematicsError("timeout", "the car does not answer")
            if message[:1] == bytes([wire.UNABLE]):
                raise TelematicsError("unable", _printable(message[1:]))
        except TelematicsError:
            self._session = None
            raise
        return message


@contextlib.contextmanager
def _well_formed() -> Iterator[None]:
    """An answer of an authenticated car may still be malformed: TelematicsError("protocol")."""
    try:
        yield
    except (RecordError, ValueError) as error:
        raise TelematicsError("protocol", str(error)) from error


def _printable(reason: bytes) -> str:
    """An unsigned reason as text for a display: at most 64 characters."""
    return "".join(chr(c) if 32 <= c < 127 else "?" for c in reason[:64])


def _contract_status(entry: bytes) -> ContractStatus:
    texts = [field.decode() for field in unpack(entry)]
    emaid, operator, start, end, custody, active, lost = texts
    return ContractStatus(emaid, operator, int(start), int(end), custody, bool(active), bool(lost))
