"""The vehicle's end of the maker's channel: who is there, then what the maker asks. Sans-I/O.

Handshake, with fresh nonces of both ends; the maker proves itself first, so that nobody else
learns who the car is:

    maker > 01 nonce_m          car > 02 nonce_c
    maker > 03 signature        car > 04 point signature

and from then on records, 05 counter(4) payload signature, one answer to each request. Every
signature covers a label, both nonces and both keys; a record's covers its direction and counter
too, so that what is repeated, reflected, reordered or changed is not answered at all. A new
handshake replaces the session once it is complete, not before. The maker's key is pinned in the
car; the maker knows the car by its provisioning key.

A payload is a list of byte strings (`evcc.record`), the first being the name of the request, or
of the answer: "ok", "refused" and a reason, or "rejected". An installation that failed is
"rejected" for whatever reason: the reason is in the car's own log. (How long it took is not
hidden.) A request longer than a record comes in pieces, announced with its length and SHA-256.

Authenticates, does not encrypt: a contract's private key is sealed to the car by the operator.
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


class TelematicsError(EvccError):
    """A request the vehicle does not take."""

    REASONS = ("request", "piece", "too-long", "locked")


def transcript(kind: bytes, nonce_m: bytes, nonce_c: bytes, *points: bytes) -> bytes:
    """32 bytes over what both ends have said. kind: one letter, whose proof or what it is for."""
    return hashlib.sha256(_LABEL + kind + nonce_m + nonce_c + b"".join(points)).digest()


def record_digest(session: bytes, direction: bytes, counter: int, payload: bytes) -> bytes:
    """What the sender of a record signs. session: `transcript(b"S", ...)`."""
    head = _LABEL + b"R" + session + direction + counter.to_bytes(COUNTER_BYTES, "big")
    return hashlib.sha256(head + payload).digest()


def seal(session: bytes, direction: bytes, counter: int, payload: bytes, sign) -> bytes:
    """A record. sign: digest to 64 bytes."""
    signature = sign(record_digest(session, direction, counter, payload))
    return bytes([RECORD]) + counter.to_bytes(COUNTER_BYTES, "big") + payload + signature


def unseal(record: bytes, session: bytes, direction: bytes, counter: int, point, verify):
    """The payload of the record that must come now, or None."""
    start = 1 + COUNTER_BYTES
    if len(record) < start + SIGNATURE_BYTES or record[0] != RECORD:
        return None
    if int.from_bytes(record[1:start], "big") != counter:
        return None
    payload = record[start:-SIGNATURE_BYTES]
    digest = record_digest(session, direction, counter, payload)
    return payload if verify(point, digest, record[-SIGNATURE_BYTES:]) else None


class Vehicle:
    """The car at the end of this channel.

    maker: the 65-byte point of the maker's telematics key. installer: (response, emaid,
    session_id) -> Contract, raises EvccError. time: a `timekeeper.Timekeeper`. log: (text) for
    the car's own log. event: (name, text), told of what a user should hear.
    """

    def __init__(
        self, maker: bytes, identity, vault, trust, contracts, installer, time, log, event
    ) -> None:
        self._maker = maker
        self._identity = identity
        self._vault = vault
        self._trust = trust
        self._contracts = contracts
        self._installer = installer
        self._time = time
        self._log = log
        self._event = event
        self._nonces = None  # of a handshake under way
        self._session = None
        self._counter = 0
        self._offer = None  # (emaid, session_id) of the one announced
        self._pieces = None  # [bytes so far, SHA-256, the whole]

    def receive(self, message: bytes) -> list:
        """One message of the channel in, the messages to send out.

        Nothing is raised, and nothing said to a peer that has not proved to be the maker.
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
        """The maker has signed our nonce: be the car it knows, from its first word on."""
        nonces, self._nonces = self._nonces, None
        if nonces is None:
            return []
        digest = transcript(TO_CAR, nonces[0], nonces[1], self._maker)
        if not self._vault.verify(self._maker, digest, signature):
            self._log("telematics: a peer that is not the maker")
            return []
        point = self._identity.point()
        points = (self._maker, point)
        proof = self._sign(transcript(TO_MAKER, nonces[0], nonces[1], *points))
        self._session = transcript(b"S", nonces[0], nonces[1], *points)
        self._counter = 0
        self._offer = None
        self._pieces = None
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
            self._log("telematics: a record that is not the maker's next one")
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
        """Carry out one request, and answer whatever becomes of it."""
        name = fields[0] if fields else b""
        try:
            if name not in requests:
                raise TelematicsError("request", repr(name[:24]))
            count, handler = requests[name]
            if len(fields) - 1 < count or (len(fields) - 1 > count and name not in _OPEN_ENDED):
                raise TelematicsError("request", name.decode() + ": number of fields")
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
        self._pieces = None
        if len(total) != 4 or len(digest) != 32:
            raise TelematicsError("piece", "length and SHA-256")
        length = int.from_bytes(total, "big")
        if length > MAX_REQUEST:
            raise TelematicsError("too-long", str(length) + " bytes")
        self._pieces = [0, digest, bytearray(length)]
        return [b"ok"]

    def _piece(self, offset: bytes, data: bytes) -> list:
        """One more piece; with the last, the request they are is carried out."""
        pieces, self._pieces = self._pieces, None
        if pieces is None or int.from_bytes(offset, "big") != pieces[0] or not data:
            raise TelematicsError("piece", "not the next one")
        stop = pieces[0] + len(data)
        whole = pieces[2]
        if stop > len(whole):
            raise TelematicsError("piece", "longer than announced")
        whole[pieces[0] : stop] = data
        if stop < len(whole):
            pieces[0] = stop
            self._pieces = pieces
            return [b"ok"]
        if hashlib.sha256(whole).digest() != pieces[1]:
            raise TelematicsError("piece", "not what was announced")
        fields = unpack(whole)
        whole = pieces = None  # the fields are copies: a board has no room for both
        return self._perform(fields, WHOLE_REQUESTS)

    # -- provisioning --

    def _csr(self, pcid: bytes, organisation: bytes, country: bytes) -> list:
        if len(organisation) > MAX_NAME or len(country) not in (0, 2):
            raise TelematicsError("request", "a name of %d bytes" % len(organisation))
        texts = [utf8.decode(field) for field in (pcid, organisation, country)]
        return [b"ok", self._identity.request(texts[0], texts[1], texts[2] or None)]

    def _install_certificate(self, *ders: bytes) -> list:
        self._identity.install(list(ders), self._trust.anchors("OEM"), self._time.now())
        self._event("provisioned", self._identity.pcid)
        return [b"ok"]

    def _install_trust(self, region: bytes, *flat: bytes) -> list:
        if len(flat) % 2:
            raise TelematicsError("request", "a kind without an anchor")
        anchors = [(utf8.decode(flat[i]), flat[i + 1]) for i in range(0, len(flat), 2)]
        self._trust.install(utf8.decode(region), anchors, self._time.now())
        self._event("trusted", utf8.decode(region))
        return [b"ok"]

    def _install_revoked(self, issued: bytes, until: bytes, *names: bytes) -> list:
        """The certificates not to be trusted, by `revocation.name`; the dates have 4 bytes."""
        dates = [int.from_bytes(date, "big") for date in (issued, until) if len(date) == 4]
        if len(dates) != 2:
            raise TelematicsError("request", "dates of 4 bytes")
        self._trust.revocation.install(dates[0], dates[1], list(names))
        return [b"ok"]

    def _set_time(self, now: bytes) -> list:
        if len(now) != 4:
            raise TelematicsError("request", "a time of 4 bytes")
        self._time.set(int.from_bytes(now, "big"))
        return [b"ok"]

    # -- contracts --

    def _unlock(self) -> list:
        """After too many envelopes whose key was not their certificate's: see `envelopes`."""
        self._contracts.unlock()
        return [b"ok"]

    def _discard_keys(self) -> list:
        """The keys in the token that no contract names are of no use to anybody."""
        self._contracts.discard_unnamed(self._vault)
        return [b"ok"]

    def _offer_contract(self, emaid: bytes, session_id: bytes) -> list:
        """A contract is waiting, sealed under that session ID: is there room for it?"""
        self._offer = None
        if self._contracts.envelopes.locked:
            raise TelematicsError("locked", "until contract.unlock")
        name = ids.parse_emaid(utf8.decode(emaid))
        self._contracts.admit(name, b"", self._time.now())
        self._offer = (name, session_id)
        return [b"ok"]

    def _install_contract(self, response: bytes) -> list:
        offer, self._offer = self._offer, None
        emaid, session_id = offer or (None, None)
        contract = self._installer(response, emaid, session_id)
        self._event("installed", contract.emaid)
        return [b"ok", contract.custody.encode()]

    def _choose_contract(self, emaid: bytes) -> list:
        self._contracts.choose(ids.parse_emaid(utf8.decode(emaid)))
        return [b"ok"]

    def _remove_contract(self, emaid: bytes) -> list:
        key = self._contracts.delete(ids.parse_emaid(utf8.decode(emaid)))
        try:
            self._vault.delete(key)
        except VaultError as e:
            self._log("telematics: a key without a contract stays till the next start: " + str(e))
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
            for contract in self._contracts.all()
        ]

    def _status(self) -> list:
        """PCID, "certified" or "", sales region, number of V2G anchors, contracts, custody,
        "locked" or "", envelopes opened, keys without a contract, the time, and the date of the
        list of revoked certificates, 0 for none."""
        contracts = self._contracts
        return [
            b"ok",
            self._identity.pcid.encode(),
            b"certified" if self._identity.certificate else b"",
            self._trust.region().encode(),
            str(len(self._trust.anchors("V2G"))).encode(),
            str(len(contracts.all())).encode(),
            self._identity.custody().encode(),
            b"locked" if contracts.envelopes.locked else b"",
            str(len(contracts.envelopes)).encode(),
            str(len(contracts.unnamed)).encode(),
            str(self._time.now()).encode(),
            str(self._trust.revocation.issued).encode(),
        ]


# name: (fields it needs, what it does). Those that fit one record and those that come in pieces
# are the same, but for the pieces themselves.
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
    """For the log, whatever the bytes are."""
    return "".join(chr(c) if 32 < c < 127 else "?" for c in name)
