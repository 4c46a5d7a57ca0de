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
every reason: the reason is in the car's own log. (Its duration is not hidden.) A request longer
than a record is sent in pieces, announced with its length and SHA-256.

The channel authenticates and does not encrypt: the operator has sealed a contract's private key
to the car.
"""

import hashlib

from . import ids, utf8
from .errors import EvccError
from .record import RecordError, pack, unpack
from .vault import PROVISIONING, VaultError

HELLO = 0x01
CHALLENGE = 0x02
MAKER_PROOF = 0x03
CAR_PROOF = 0x04
RECORD = 0x05

NONCE_BYTES = 32
POINT_BYTES = 65
SIGNATURE_BYTES = 64
COUNTER_BYTES = 4
PIECE = 1024  # bytes of a long request in one record
MAX_REQUEST = 10240  # bytes of a request in pieces: a response of 8,192, or 16 trust anchors

MAX_NAME = 64  # bytes of an organisation's [RFC 5280, A.1]

TO_CAR = b"M"
TO_MAKER = b"C"
_LABEL = b"plugvault telematics 1\x00"


class RequestRefusedError(EvccError):
    """A request that the vehicle refuses."""

    REASONS = ("request", "piece", "too-long", "locked")


def transcript(kind: bytes, nonce_m: bytes, nonce_c: bytes, *points: bytes) -> bytes:
    """SHA-256 over the handshake. kind: one letter, the purpose: TO_CAR, TO_MAKER or b"S"."""
    return hashlib.sha256(_LABEL + kind + nonce_m + nonce_c + b"".join(points)).digest()


def record_digest(session: bytes, direction: bytes, counter: int, payload: bytes) -> bytes:
    """The digest that the sender of a record signs. session: `transcript(b"S", ...)`."""
    head = _LABEL + b"R" + session + direction + counter.to_bytes(COUNTER_BYTES, "big")
    return hashlib.sha256(head + payload).digest()


def seal(session: bytes, direction: bytes, counter: int, payload: bytes, sign) -> bytes:
    """A record. sign: digest to 64 bytes."""
    signature = sign(record_digest(session, direction, counter, payload))
    return bytes([RECORD]) + counter.to_bytes(COUNTER_BYTES, "big") + payload + signature


def unseal(record: bytes, session: bytes, direction: bytes, counter: int, point, verify):
    """The payload of a record with this counter and a valid signature, else None."""
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
    log. event: (name, text), for the user.
    """

    def __init__(self, maker: bytes, car, installer, log, event) -> None:
        self._maker = maker
        self._car = car
        self._vault = car.vault
        self._installer = installer
        self._log = log
        self._event = event
        self._nonces = None  # of an incomplete handshake
        self._session = None
        self._counter = 0
        self._offer = None  # (emaid, session_id) of the announced contract
        self._upload = None  # [bytes received, SHA-256, buffer] of a request in pieces

    def receive(self, message: bytes) -> list:
        """Handle one message of the channel; returns the messages to send. Raises nothing.

        A peer that is not authenticated gets at most a challenge.
        """
        try:
            kind = message[0] if message else 0
            if kind == HELLO:
                return self._challenge(message[1:])
            if kind == MAKER_PROOF:
                return self._prove(message[1:])
            if kind == RECORD:
                return self._answer(message)
        except VaultError as e:
            self._log("telematics: " + str(e))
        return []

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
            self._log("telematics: the peer is not the maker")
            return []
        point = self._car.identity.point()
        points = (self._maker, point)
        proof = self._sign(transcript(TO_MAKER, nonces[0], nonces[1], *points))
        self._session = transcript(b"S", nonces[0], nonces[1], *points)
        self._counter = 0
        self._offer = None
        self._upload = None
        return [bytes([CAR_PROOF]) + point + proof]

    def _sign(self, digest: bytes) -> bytes:
        return self._vault.sign(PROVISIONING, digest)

    def _answer(self, record: bytes) -> list:
        if self._session is None:
            return []
        counter = self._counter
        verify = self._vault.verify
        payload = unseal(record, self._session, TO_CAR, counter, self._maker, verify)
        if payload is None:
            self._log("telematics: not the maker's next record")
            return []
        self._counter += 1
        answer = pack(self._execute(payload))
        return [seal(self._session, TO_MAKER, counter, answer, self._sign)]

    def _execute(self, payload: bytes) -> list:
        try:
            fields = unpack(payload)
        except RecordError as e:
            self._log("telematics: " + str(e))
            return [b"refused", e.reason.encode()]
        return self._perform(fields, REQUESTS)

    def _perform(self, fields: list, requests: dict) -> list:
        """Carry out one request. Returns the fields of its answer, after a failure too."""
        name = fields[0] if fields else b""
        try:
            if name not in requests:
                raise RequestRefusedError("request", repr(name[:24]))
            count, handler = requests[name]
            if len(fields) - 1 < count or (len(fields) - 1 > count and name not in _OPEN_ENDED):
                raise RequestRefusedError("request", name.decode() + ": number of fields")
            return handler(self, *fields[1:])
        except (EvccError, UnicodeError) as e:
            self._log("telematics: " + _text(name[:24]) + ": " + str(e))
            if name == b"contract.install":
                self._event("rejected", "")
                return [b"rejected"]
            reason = e.reason if isinstance(e, EvccError) else "request"
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

    def _piece(self, offset: bytes, data: bytes) -> list:
        """Store one piece; after the last one carry out the request."""
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
        fields = unpack(buffer)
        buffer = upload = None  # the fields are copies: a board has no memory for both
        return self._perform(fields, WHOLE_REQUESTS)

    # -- provisioning --

    def _csr(self, pcid: bytes, organisation: bytes, country: bytes) -> list:
        if len(organisation) > MAX_NAME or len(country) not in (0, 2):
            raise RequestRefusedError("request", "a name of %d bytes" % len(organisation))
        texts = [utf8.decode(field) for field in (pcid, organisation, country)]
        return [b"ok", self._car.identity.request(texts[0], texts[1], texts[2] or None)]

    def _install_certificate(self, *ders: bytes) -> list:
        self._car.identity.install(
            list(ders), self._car.trust.anchors("OEM"), self._car.time.now()
        )
        self._event("provisioned", self._car.identity.pcid)
        return [b"ok"]

    def _install_trust(self, region: bytes, *flat: bytes) -> list:
        if len(flat) % 2:
            raise RequestRefusedError("request", "a kind without an anchor")
        anchors = [(utf8.decode(flat[i]), flat[i + 1]) for i in range(0, len(flat), 2)]
        self._car.trust.install(utf8.decode(region), anchors, self._car.time.now())
        self._event("trusted", utf8.decode(region))
        return [b"ok"]

    def _install_revoked(self, issued: bytes, until: bytes, *names: bytes) -> list:
        """Replace the list of revoked certificates, by `revocation.name`; dates have 4 bytes."""
        dates = [int.from_bytes(date, "big") for date in (issued, until) if len(date) == 4]
        if len(dates) != 2:
            raise RequestRefusedError("request", "dates of 4 bytes")
        self._car.trust.revocation.install(dates[0], dates[1], list(names))
        return [b"ok"]

    def _set_time(self, now: bytes) -> list:
        if len(now) != 4:
            raise RequestRefusedError("request", "a time of 4 bytes")
        self._car.time.set(int.from_bytes(now, "big"))
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
        self._car.contracts.admit(name, b"", self._car.time.now())
        self._offer = (name, session_id)
        return [b"ok"]

    def _install_contract(self, response: bytes) -> list:
        offer, self._offer = self._offer, None
        emaid, session_id = offer or (None, None)
        contract = self._installer(response, emaid, session_id)
        self._event("installed", contract.emaid)
        return [b"ok", contract.custody.encode()]

    def _choose_contract(self, emaid: bytes) -> list:
        self._car.contracts.choose(ids.parse_emaid(utf8.decode(emaid)))
        return [b"ok"]

    def _remove_contract(self, emaid: bytes) -> list:
        key = self._car.contracts.delete(ids.parse_emaid(utf8.decode(emaid)))
        try:
            self._vault.delete(key)
        except VaultError as e:
            self._log("telematics: a key without a contract stays until the next start: " + str(e))
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
        "locked" or "", envelopes opened, keys without a contract, the time, and the date of the
        list of revoked certificates, 0 for none."""
        contracts = self._car.contracts
        return [
            b"ok",
            self._car.identity.pcid.encode(),
            b"certified" if self._car.identity.certificate else b"",
            self._car.trust.region().encode(),
            str(len(self._car.trust.anchors("V2G"))).encode(),
            str(len(contracts.all())).encode(),
            self._car.identity.custody().encode(),
            b"locked" if contracts.envelopes.locked else b"",
            str(len(contracts.envelopes)).encode(),
            str(len(contracts.unnamed)).encode(),
            str(self._car.time.now()).encode(),
            str(self._car.trust.revocation.issued).encode(),
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


def _text(name: bytes) -> str:
    """The printable characters of a name, for the log."""
    return "".join(chr(c) if 32 < c < 127 else "?" for c in name)
