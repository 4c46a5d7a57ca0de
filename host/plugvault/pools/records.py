"""The records that the pools keep: plain, immutable values.

A record changes by putting a new one with the same key (`plugvault.pools.repositories`). Private
keys have no place in any record. Several values in one field are joined by commas; times are Unix
seconds; `issuer` with `serial` names a certificate: the issuing CA's key identifier and the serial
number, both lower-case hexadecimal.
"""

from dataclasses import dataclass, field

from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pools.caller import Caller


@dataclass(frozen=True)
class Root:
    """A root certificate in RCP. `kind`: "V2G", "MO", "OEM" or "PE"; key: `root_id`.

    `origin`: the ecosystem it was fetched from, empty for one an administrator of this one added.
    """

    root_id: str
    kind: str
    certificate: bytes
    fingerprint: str
    namespace: str = ISO2
    origin: str = ""


@dataclass(frozen=True)
class Provisioning:
    """A vehicle's provisioning certificate in PCP; key: `vehicle` and `namespace`.

    `vehicle`: the PCID in upper case; `pcid`: as its certificate writes it; `v2g_roots`: key
    identifiers of the V2G roots in the vehicle, lower-case hexadecimal, joined by commas;
    `not_after`: when the first certificate of the path ends; `origin`: the ecosystem this is a
    copy from, empty for a vehicle of this one.
    """

    vehicle: str
    namespace: str
    pcid: str
    certificate: bytes
    sub2: bytes | None
    sub1: bytes
    root: bytes
    v2g_roots: str = ""
    previous_pcid: str | None = None
    not_after: int = 0
    issuer: str = ""
    serial: str = ""
    origin: str = ""

    @property
    def subs(self) -> list[bytes]:
        """Sub2 first, as messages have them."""
        return [self.sub2, self.sub1] if self.sub2 else [self.sub1]


@dataclass(frozen=True)
class Contract:
    """A signed contract bundle in CCP; key: `emaid` and `namespace`.

    `message`: the CertificateInstallationRes in EXI, without a session; `delivered`: None before
    the vehicle or its maker got it; `issuer`, `serial`: of the contract certificate; `subs`: what
    stands above it, Sub2 first, and then the CPS's leaf with what stands above that.
    """

    emaid: str
    namespace: str
    vehicle: str
    pcid: str
    certificate: bytes
    message: bytes
    root_fingerprint: str
    default: bool
    not_before: int
    not_after: int
    metadata: str | None = None
    delivered: int | None = None
    issuer: str = ""
    serial: str = ""
    subs: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Status:
    """The record of a certificate that was issued here, or that is revoked; key: `issuer` and
    `serial`. `revoked`: the time of revocation, None for a good certificate; `reason`: as in OPNC
    ("superseded", …)."""

    issuer: str
    serial: str
    subject: str
    not_after: int
    revoked: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Seen:
    """A DH point or a contract key that was used; key: `mark`, its hash. `holds`: a hash of what
    it was used for; `of_key`: the mark of the contract key; `until`: when it may be forgotten.
    See `pools.envelopes`."""

    mark: bytes
    holds: bytes
    of_key: bytes
    until: int


@dataclass(frozen=True)
class Client:
    """A client that gets access tokens; key: `client_id`. `roles`, `wmis`, `providers` and
    `operators`: as in `Caller`, joined by commas; `active`: False locks the client at once."""

    client_id: str
    secret_digest: bytes = field(repr=False)
    name: str
    roles: str
    wmis: str = ""
    providers: str = ""
    operators: str = ""
    active: bool = True

    @property
    def caller(self) -> Caller:
        """The caller with the roles and identifiers of this client."""
        return Caller(
            self.name,
            _set(self.roles),
            _set(self.wmis),
            _set(self.providers),
            _set(self.operators),
            self.client_id,
        )


@dataclass(frozen=True)
class Endpoint:
    """A webhook; key: `endpoint_id`. `owner`: client_id; `scopes`: the WMIs and providers of its
    events (an event for every client needs no scope); `events`: the kinds of its events.

    Its secret is not stored: it is derived where it is used.
    """

    endpoint_id: str
    owner: str
    owner_name: str
    role: str
    scopes: str
    url: str
    events: str
    created: int
    enabled: bool = True
    api_version: str = "v1"
    description: str = ""
    metadata: str = "{}"


@dataclass(frozen=True)
class Event:
    """An event of a pool; key: `event_id`. `kind`: such as "oem.contract.created".

    `audience`: a WMI, a provider, "*" for everyone, or "@admin"; `vehicle`: upper-case PCID, or
    empty; the events of a vehicle keep their order; `payload`: JSON; `sequence`: from the store,
    it grows in the order in which transactions end.
    """

    event_id: str
    kind: str
    at: int
    audience: str
    payload: str
    vehicle: str = ""
    namespace: str = ""
    sequence: int = 0


@dataclass(frozen=True)
class Delivery:
    """An event on its way to one webhook; key: `event_id` and `endpoint_id`.

    `state`: "pending", "sent", "rejected" (the receiver refused the event) or "dead" (no further
    attempt); `due`: the time of the next attempt; `lease`: the time until which one worker has the
    delivery; `outcome`: the result of the last attempt, in words.
    """

    event_id: str
    endpoint_id: str
    vehicle: str = ""
    state: str = "pending"
    attempts: int = 0
    due: float = 0.0
    lease: float = 0.0
    outcome: str = ""


@dataclass(frozen=True)
class AuditEntry:
    """One line of the trail that cannot be edited. `digest`: SHA-256 in hexadecimal over the
    entry before it and this one; the store gives it and the `sequence`."""

    at: int
    who: str
    action: str
    subject: str
    detail: str = ""
    sequence: int = 0
    digest: str = ""


@dataclass(frozen=True)
class RootChange:
    """A change of RCP that waits for a second person; key: `change_id`. `action`: "add" or
    "delete"; `state`: "pending", "done" or "refused"; `asked_by`, `decided_by`: client_ids."""

    change_id: str
    action: str
    kind: str
    certificate: bytes
    root_id: str
    asked_by: str
    asked: int
    state: str = "pending"
    decided_by: str = ""
    decided: int | None = None


@dataclass(frozen=True)
class EndEntity:
    """A charging station that was announced before its certificate was requested; key:
    `common_name`. `body`: the JSON of the announcement; `owner`: client_id."""

    common_name: str
    owner: str
    body: str
    created: int


@dataclass(frozen=True)
class RegisteredVehicle:
    """A row of the vehicle registry; key: `vin`. `plate`: None for a vehicle that has none yet;
    `document_digest`: of the number of the registration document, the proof of the
    vehicle's holder; see `pools.registry`."""

    vin: str
    plate: str | None
    pcid: str
    document_digest: bytes = field(repr=False)


@dataclass(frozen=True)
class FailedAttemptCount:
    """Wrong proofs of one caller for one vehicle; key: `who` (client_id) and `subject`.
    `wrong`: their number since the last right one; `last`: the time of the latest."""

    who: str
    subject: str
    wrong: int
    last: int


@dataclass(frozen=True)
class Provider:
    """A row of the registry of provider identifiers; key: `provider` ("GBOCT")."""

    provider: str
    name: str
    registry: str
    active: bool = True


@dataclass(frozen=True)
class Peer:
    """Another ecosystem; key: `name`. `state`: "applied", "audited", "active" or "suspended".
    `client_id`: of its calls to this ecosystem."""

    name: str
    url: str
    state: str
    since: int
    client_id: str = ""


@dataclass(frozen=True)
class Job:
    """Long work that a worker does in small steps; key: `job_id`. `kind`: such as "terminate";
    `subject`: the identifier it works on; `state`: "waiting" or "done"; `done`: the number of
    finished items; `lease`: the time until which one worker has the job."""

    job_id: str
    kind: str
    subject: str
    asked_by: str
    asked: int
    state: str = "waiting"
    done: int = 0
    lease: float = 0.0


def _set(joined: str) -> frozenset[str]:
    return frozenset(joined.split(",")) if joined else frozenset()
