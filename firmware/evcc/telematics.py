"""The vehicle's end of the maker's channel: mutual authentication, then requests. Sans-I/O.

Handshake, with fresh nonces of both ends. The maker proves its key first, so that no other peer
learns which car it is:

    maker > 01 nonce_m          car > 02 nonce_c
    maker > 03 signature        car > 04 point signature

Then records, 05 counter(4) payload signature, one answer to each request. Every signature covers a
label, both nonces and both keys; a record's covers its direction and counter too. A record that is
repeated, reflected, out of order or changed gets no answer. A new handshake replaces the session
only when it is complete. The maker's key is pinned in the car; the maker knows the car by its
provisioning key.

A payload is a list of byte strings (`evcc.record`). The first is the name of the request, or of
the answer: "ok", "refused" with a reason, or "rejected". A failed installation is "rejected" for
every reason that depends on the message: the reason is in the car's own log. (Its duration is not
hidden.) It is "refused" while the time is not known ("clock"), where heap, stack, flash or token
is full ("resources"), where flash or disk cannot be written ("storage"), while the vault opens no
more keys ("limited") and while it does not work ("unavailable", "token-missing"). A request longer
than a record is sent in pieces, announced with its length and SHA-256.

A car that cannot answer, because its vault fails, sends 06 and the reason. This is not signed: the
maker may take it as the end of its waiting, as it takes a cut line, and as nothing more.

The maker's time is fresh by a challenge: the car's last message, which the maker must have before
it signs the next record. A time that takes longer than `FRESH_MS` from there is refused ("late"),
and the refusal is the next challenge.

The channel authenticates and does not encrypt: the operator has sealed a contract's private key
to the car.
"""

import hashlib

from . import ids, utf8
from .errors import PASSING, EvccError, reason_of, text_of
from .record import pack, unpack
from .revocation import NEVER
from .vault import PROVISIONING, VaultError

HELLO = 0x01
CHALLENGE = 0x02
MAKER_PROOF = 0x03
CAR_PROOF = 0x04
RECORD = 0x05
UNABLE = 0x06

NONCE_BYTES = 32
POINT_BYTES = 65
SIGNATURE_BYTES = 64
COUNTER_BYTES = 4
PIECE = 1024  # bytes of a long request in one record
MAX_REQUEST = 10240  # bytes of a request in pieces: a response of 8,192, or 16 trust anchors

MAX_NAME = 64  # bytes of an organisation's [RFC 5280, A.1]
FRESH_MS = 60000  # for the maker's time, on its way from challenge to car

TO_CAR = b"M"
TO_MAKER = b"C"
_LABEL = b"plugvault telematics 1\x00"


class RequestRefusedError(EvccError):
    """A request that the vehicle refuses."""

    REASONS = (
        "request",  # an unknown name, or fields of another number or length
        "piece",  # not the next piece, or not of the announced request
        "too-long",
        "locked",  # no contract is installed until "contract.unlock"
        "late",  # the maker's time took longer than `FRESH_MS`
    )


def transcript(kind: bytes, nonce_m: bytes, nonce_c: bytes, *points: bytes) -> bytes:
    """SHA-256 over the handshake, 32 bytes. kind: the purpose, one letter: TO_CAR and TO_MAKER for
    a proof, b"S" for the session. points: the maker's key, and, but for TO_CAR, the car's."""
    return hashlib.sha256(_LABEL + kind + nonce_m + nonce_c + b"".join(points)).digest()


def record_digest(session: bytes, direction: bytes, counter: int, payload: bytes) -> bytes:
    """The SHA-256 that the sender of a record signs. session: `transcript(b"S", ...)`. direction:
    TO_CAR or TO_MAKER."""
    head = _LABEL + b"R" + session + direction + counter.to_bytes(COUNTER_BYTES, "big")
    return hashlib.sha256(head + payload).digest()


def unable(error: Exception) -> bytes:
    """The message of a car that cannot answer: 06 and the reason in ASCII, "vault" or that of
    `errors.reason_of`."""
    reason = "vault" if isinstance(error, VaultError) else reason_of(error)
    return bytes([UNABLE]) + reason.encode()


def seal(session: bytes, direction: bytes, counter: int, payload: bytes, sign) -> bytes:
    """A record: 05, counter (4 bytes, big-endian), payload, signature. sign: digest (32 bytes) to
    r‖s (64 bytes)."""
    signature = sign(record_digest(session, direction, counter, payload))
    return bytes([RECORD]) + counter.to_bytes(COUNTER_BYTES, "big") + payload + signature


def unseal(record: bytes, session: bytes, direction: bytes, counter: int, point, verify):
    """The payload of a record with this counter and a valid signature, else None. point: the
    sender's key, 65 bytes. verify: (point, digest, r‖s) -> bool."""
    start = 1 + COUNTER_BYTES
    if len(record) < start + SIGNATURE_BYTES or record[0] != RECORD:
        return None
    if int.from_bytes(record[1:start], "big") != counter:
        return None
    payload = record[start:-SIGNATURE_BYTES]
    digest = record_digest(session, direction, counter, payload)
    return payload if verify(point, digest, record[-SIGNATURE_BYTES:]) else None


class Vehicle:
    """The car at its end of the channel.

    maker: the 65-byte point of the maker's telematics key. car: `evcc.car.CarContext`. installer:
    (response, emaid, session_id) -> Contract, raises EvccError. log: (text), for the car's own
    log. event: (name, text), for the user. `due`: the request that waits for `carry_out`, or None.
    """

    def __init__(self, maker: bytes, car, installer, log, event) -> None:
        self._maker = maker
        self._car = car
        self._vault = car.vault
        self._installer = installer
        self._log = log
        self._event = event
        self._nonces = None  # of an incomplete handshake
        self._session = b""  # the session's transcript, which every record names
        self._counter = 0
        self._asked_ms = 0  # when the car's last message to the maker was made
        self._offer = None  # (emaid, session_id) of the announced contract
        self._upload = None  # [bytes received, SHA-256, buffer] of a request in pieces
        self.due: "bytes | None" = None

    def receive(self, message: bytes) -> list:
        """`take`, and `carry_out` at once: for an owner with a large stack."""
        return self.take(message) + self.carry_out()

    def take(self, message: bytes) -> list:
        """Handle one message of the channel; returns the messages to send. Raises nothing.

        A maker's request then waits in `due` for `carry_out`, which the owner calls from the top
        of its loop: an installation takes most of a small board's stack. A peer that is not
        authenticated gets at most a challenge, or learns that the car is unable.
        """
        kind = message[0] if message else 0
        try:
            if kind == HELLO:
                return self._challenge(message[1:])
            if kind == MAKER_PROOF:
                return self._prove(message[1:])
            if kind == RECORD:
                self._accept(message)
        except Exception as e:  # noqa: BLE001 - every failure is reported
            return self._unable(e)
        return []

    def _unable(self, error: Exception) -> list:
        message = unable(error)
        self._log("telematics: " + text_of(error))
        self._event("unable", message[1:].decode())
        return [message]

    def _challenge(self, nonce: bytes) -> list:
        if len(nonce) != NONCE_BYTES:
            return []
        self._nonces = (nonce, self._vault.random(NONCE_BYTES))
        return [bytes([CHALLENGE]) + self._nonces[1]]

    def _prove(self, signature: bytes) -> list:
        """Check the maker's signature over the car's nonce, and answer with the car's own."""
        nonces, self._nonces = self._nonces, None
        if nonces is None:
            return []
        digest = transcript(TO_CAR, nonces[0], nonces[1], self._maker)
        if not self._vault.verify(self._maker, digest, signature):
            self._stranger("the peer is not the maker")
            return []
        point = self._car.identity.point()
        points = (self._maker, point)
        self._asked_ms = self._car.time.ticks_ms()
        proof = self._sign(transcript(TO_MAKER, nonces[0], nonces[1], *points))
        self._session = transcript(b"S", nonces[0], nonces[1], *points)
        self._counter = 0
        self._offer = None
        self._upload = None
        self.due = None
        return [bytes([CAR_PROOF]) + point + proof]

    def _sign(self, digest: bytes) -> bytes:
        return self._vault.sign(PROVISIONING, digest)

    def _stranger(self, text: str) -> None:
        self._log("telematics: " + text)
        self._event("stranger", text)

    def _accept(self, record: bytes) -> None:
        """Note the request in the maker's next record as due."""
        if not self._session:
            self._stranger("a record without a session")
            return
        verify = self._vault.verify
        payload = unseal(record, self._session, TO_CAR, self._counter, self._maker, verify)
        if payload is None:
            self._stranger("not the maker's next record")
        else:
            self._counter += 1
            self.due = payload

    def carry_out(self) -> list:
        """Carry out the request that is due. Returns the messages to send. Raises nothing."""
        if self.due is None:
            return []
        answer = None
        requests = REQUESTS
        while answer is None:  # the last piece of a long request makes the whole one due
            name = b""
            try:
                fields = unpack(self.due or b"")
                self.due = None  # the fields are copies: a board has no memory for both
                name = fields[0] if fields else b""
                answer = _handler(fields, requests)(self, *fields[1:])
            except Exception as e:  # noqa: BLE001 - every failure is reported
                answer = self._refusal(name, e)
            requests = WHOLE_REQUESTS
        self.due = None
        self._asked_ms = self._car.time.ticks_ms()
        try:
            return [seal(self._session, TO_MAKER, self._counter - 1, pack(answer), self._sign)]
        except Exception as e:  # noqa: BLE001
            return self._unable(e)

    def _refusal(self, name: bytes, error: Exception) -> list:
        """The answer after a failure, which is logged."""
        self._log("telematics: " + (_text(name[:24]) or "record") + ": " + text_of(error))
        is_text = isinstance(error, UnicodeError)
        reason = "request" if is_text else reason_of(error)
        is_own = reason in PASSING
        if name == b"contract.install":
            self._event("rejected", reason if is_own else "")
            if not is_own:
                return [b"rejected"]
        elif not is_text and (is_own or reason == "internal" or isinstance(error, VaultError)):
            self._event("unable", reason)
        return [b"refused", reason.encode()]

    # -- long requests --

    def _begin(self, total: bytes, digest: bytes) -> list:
        self._upload = None
        if len(total) != 4 or len(digest) != 32:
            raise RequestRefusedError("piece", "length and SHA-256")
        length = int.from_bytes(total, "big")
        if length > MAX_REQUEST:
            raise RequestRefusedError("too-long", str(length) + " bytes")
        self._upload = [0, digest, bytearray(length)]
        return [b"ok"]

    def _piece(self, offset: bytes, data: bytes):
        """Store one piece. After the last one the whole request is due, and the result None."""
        upload, self._upload = self._upload, None
        if upload is None or int.from_bytes(offset, "big") != upload[0] or not data:
            raise RequestRefusedError("piece", "not the next one")
        start, digest, buffer = upload
        stop = start + len(data)
        if stop > len(buffer):
            raise RequestRefusedError("piece", "longer than announced")
        buffer[start:stop] = data
        if stop < len(buffer):
            upload[0] = stop
            self._upload = upload
            return [b"ok"]
        if hashlib.sha256(buffer).digest() != digest:
            raise RequestRefusedError("piece", "not the announced request")
        self.due = buffer
        return None

    # -- provisioning --

    def _csr(self, pcid: bytes, organisation: bytes, country: bytes) -> list:
        if len(organisation) > MAX_NAME or len(country) not in (0, 2):
            raise RequestRefusedError("request", "a name of %d bytes" % len(organisation))
        texts = [utf8.decode(field) for field in (pcid, organisation, country)]
        return [b"ok", self._car.identity.request(texts[0], texts[1], texts[2] or None)]

    def _install_certificate(self, *ders: bytes) -> list:
        car = self._car
        car.identity.install(list(ders), car.trust.anchors("OEM"), car.time.trusted())
        self._event("provisioned", car.identity.pcid)
        return [b"ok"]

    def _install_trust(self, region: bytes, *flat: bytes) -> list:
        if len(flat) % 2:
            raise RequestRefusedError("request", "a kind without an anchor")
        anchors = [(utf8.decode(flat[i]), flat[i + 1]) for i in range(0, len(flat), 2)]
        name = utf8.decode(region)
        self._car.trust.install(name, anchors, self._car.time.trusted())
        self._event("trusted", name)
        return [b"ok"]

    def _install_revoked(self, issued: bytes, until: bytes, *names: bytes) -> list:
        """Replace the list of revoked certificates, by `revocation.name`; dates have 4 bytes."""
        if len(issued) != 4 or len(until) != 4:
            raise RequestRefusedError("request", "dates of 4 bytes")
        dates = int.from_bytes(issued, "big"), int.from_bytes(until, "big")
        time = self._car.time
        now = time.now() if time.source() == "maker" else NEVER
        self._car.trust.revocation.install(*dates, list(names), now)
        return [b"ok"]

    def _set_time(self, now: bytes) -> list:
        """Take the maker's time, if it was signed just now."""
        if len(now) != 4:
            raise RequestRefusedError("request", "a time of 4 bytes")
        time = self._car.time
        if time.ticks_ms() - self._asked_ms > FRESH_MS:
            raise RequestRefusedError("late", "the time was too long on its way")
        time.set(int.from_bytes(now, "big"))
        return [b"ok"]

    # -- contracts --

    def _unlock(self) -> list:
        """Allow installations again after too many mismatched keys: see `envelopes`."""
        self._car.contracts.unlock()
        return [b"ok"]

    def _discard_keys(self) -> list:
        """Destroy the keys in the token that no contract names."""
        self._car.contracts.discard_unnamed(self._vault)
        return [b"ok"]

    def _offer_contract(self, emaid: bytes, session_id: bytes) -> list:
        """Note an announced contract, sealed under that session ID; refused without room."""
        self._offer = None
        if self._car.contracts.envelopes.locked:
            raise RequestRefusedError("locked", "until contract.unlock")
        name = ids.parse_emaid(utf8.decode(emaid))
        self._car.contracts.admit(name, b"", self._car.time.trusted())
        self._offer = (name, session_id)
        return [b"ok"]

    def _install_contract(self, response: bytes) -> list:
        offer, self._offer = self._offer, None
        emaid, session_id = offer or (None, None)
        contract = self._installer(response, emaid, session_id)
        self._event("installed", contract.emaid)
        return [b"ok", contract.custody.encode()]

    def _choose_contract(self, emaid: bytes) -> list:
        """Make a contract the active one; an empty EMAID: none."""
        self._car.contracts.choose(emaid and ids.parse_emaid(utf8.decode(emaid)))
        return [b"ok"]

    def _remove_contract(self, emaid: bytes) -> list:
        key = self._car.contracts.delete(ids.parse_emaid(utf8.decode(emaid)))
        try:
            self._vault.delete(key)
        except VaultError as e:
            self._log("telematics: a key stays until the next start: " + str(e))
        return [b"ok"]

    def _list_contracts(self) -> list:
        return [b"ok"] + [
            pack(
                [
                    contract.emaid.encode(),
                    contract.operator.encode(),
                    str(contract.not_before).encode(),
                    str(contract.not_after).encode(),
                    contract.custody.encode(),
                    b"active" if contract.active else b"",
                    b"lost" if contract.lost else b"",
                ]
            )
            for contract in self._car.contracts.all()
        ]

    def _status(self) -> list:
        """PCID, "certified" or "", sales region, number of V2G anchors, contracts, custody,
        "locked" or "", envelopes opened, keys without a contract, the time (0: not known), and the
        date of the list of revoked certificates, 0 for none."""
        car = self._car
        contracts = car.contracts
        return [
            b"ok",
            car.identity.pcid.encode(),
            b"certified" if car.identity.certificate else b"",
            car.trust.region().encode(),
            str(len(car.trust.anchors("V2G"))).encode(),
            str(len(contracts.all())).encode(),
            car.identity.custody().encode(),
            b"locked" if contracts.envelopes.locked else b"",
            str(len(contracts.envelopes)).encode(),
            str(len(contracts.unnamed)).encode(),
            str(car.time.now() if car.time.source() else 0).encode(),
            str(car.trust.revocation.issued).encode(),
        ]


# name: (number of fields, handler). WHOLE_REQUESTS are carried out from one record or from pieces.
WHOLE_REQUESTS = {
    b"provision.csr": (3, Vehicle._csr),
    b"provision.install": (1, Vehicle._install_certificate),
    b"trust.install": (1, Vehicle._install_trust),
    b"contract.offer": (2, Vehicle._offer_contract),
    b"contract.install": (1, Vehicle._install_contract),
    b"contract.choose": (1, Vehicle._choose_contract),
    b"contract.remove": (1, Vehicle._remove_contract),
    b"contract.list": (0, Vehicle._list_contracts),
    b"contract.unlock": (0, Vehicle._unlock),
    b"keys.discard": (0, Vehicle._discard_keys),
    b"time.set": (1, Vehicle._set_time),
    b"revoked.install": (2, Vehicle._install_revoked),
    b"status": (0, Vehicle._status),
}
REQUESTS = {b"begin": (2, Vehicle._begin), b"piece": (2, Vehicle._piece)}
REQUESTS.update(WHOLE_REQUESTS)
_OPEN_ENDED = (b"provision.install", b"trust.install", b"revoked.install")


def _handler(fields: list, requests: dict):
    """The handler of a request. Raises: RequestRefusedError."""
    name = fields[0] if fields else b""
    if name not in requests:
        raise RequestRefusedError("request", repr(name[:24]))
    count, handler = requests[name]
    if len(fields) - 1 < count or (len(fields) - 1 > count and name not in _OPEN_ENDED):
        raise RequestRefusedError("request", name.decode() + ": number of fields")
    return handler


def _text(name: bytes) -> str:
    """The printable characters of a name, for the log."""
    return "".join(chr(c) if 32 < c < 127 else "?" for c in name)
