"""What the pools keep, and the store they are given.

A record is a plain value; changing one is putting a new one with the same key. `Records` is one
transaction: all of it happens or nothing. Private keys have no place in any record. Several
values in one field are joined by commas; moments are Unix seconds; `issuer` with `serial` names a
certificate: the issuing CA's key identifier and the serial number, both lower-case hexadecimal.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

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
    """What is known of a certificate that was issued here, or that is revoked; key: `issuer` and
    `serial`. `revoked`: when, None while it is good; `reason`: as in OPNC ("superseded", …)."""

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
    """Who may ask for access tokens; key: `client_id`. `roles`, `wmis`, `providers`, `operators`:
    as in `Caller`, joined by commas; `active`: False locks the client out at once."""

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
    """A webhook; key: `endpoint_id`. `owner`: client_id; `scopes`: the WMIs and providers whose
    events it gets (an event for all reaches it whatever they are); `events`: kinds it wants.

    Its secret is not here: it is derived where it is used.
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
    """Something that happened; key: `event_id`. `kind`: such as "oem.contract.created".

    `audience`: a WMI, a provider, or "*" for everyone; `vehicle`: upper-case PCID whose events
    keep their order, or empty; `payload`: JSON; `sequence`: given by the store, it grows in the
    order in which transactions end.
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

    `state`: "pending", "sent", "rejected" (the receiver does not want it) or "dead" (given up);
    `due`: when to try next; `lease`: until when a worker has it in hand; `outcome`: what the
    last attempt came to, in words.
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
    """A charging station announced before its certificate is asked for; key: `common_name`.
    `body`: JSON, as it was given; `owner`: client_id."""

    common_name: str
    owner: str
    body: str
    created: int


@dataclass(frozen=True)
class RegisteredVehicle:
    """A row of the vehicle registry; key: `vin`. `plate`: None for a vehicle that has none yet;
    `document_digest`: of the number of the registration document, which only who may use the
    vehicle can tell; see `pools.registry`."""

    vin: str
    plate: str | None
    pcid: str
    document_digest: bytes = field(repr=False)


@dataclass(frozen=True)
class Guesses:
    """Wrong proofs of one caller for one vehicle; key: `who` (client_id) and `subject`.
    `wrong`: how many in a row; `last`: when the latest was."""

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
    `client_id`: what it calls this one with."""

    name: str
    url: str
    state: str
    since: int
    client_id: str = ""


@dataclass(frozen=True)
class Job:
    """Long work that a worker does in small steps; key: `job_id`. `kind`: such as "terminate";
    `subject`: of what; `state`: "waiting" or "done"; `done`: how many so far."""

    job_id: str
    kind: str
    subject: str
    asked_by: str
    asked: int
    state: str = "waiting"
    done: int = 0
    lease: float = 0.0


class Roots(Protocol):
    def get(self, root_id: str) -> Root | None: ...
    def all(self, kind: str | None = None) -> Sequence[Root]: ...
    def by_fingerprint(self, fingerprint: str) -> Root | None: ...
    def put(self, root: Root) -> None: ...
    def delete(self, root_id: str) -> None: ...


class Vehicles(Protocol):
    def get(self, vehicle: str, namespace: str) -> Provisioning | None: ...
    def put(self, provisioning: Provisioning) -> None: ...
    def delete(self, vehicle: str, namespace: str) -> None: ...
    def after(self, vehicle: str, limit: int) -> Sequence[Provisioning]:
        """In the order of their PCIDs, from this one on. For who runs the ecosystem: no call of
        OPCP may list vehicles."""
        ...

    def issuers(self) -> Sequence[str]:
        """Key identifiers of the CAs that issued their certificates."""
        ...

    def of_issuer(self, issuer: str, serial: str, limit: int) -> Sequence[Provisioning]:
        """Those with a certificate of this CA's, in the order of serials, from this one on."""
        ...

    def ended(self, now: float, limit: int) -> Sequence[Provisioning]:
        """Those that have expired, or whose leaf or one of its sub-CAs is revoked."""
        ...


class Contracts(Protocol):
    def get(self, emaid: str, namespace: str) -> Contract | None: ...
    def of_vehicle(self, vehicle: str, namespace: str) -> Sequence[Contract]: ...
    def of_provider(self, provider: str, limit: int) -> Sequence[Contract]: ...
    def put(self, contract: Contract) -> None: ...
    def deliver(self, emaid: str, namespace: str, at: int) -> None:
        """Note when it was."""
        ...

    def delete(self, emaid: str, namespace: str) -> None: ...
    def delete_all(self, contracts: Sequence[Contract]) -> None: ...
    def issuers(self) -> Sequence[str]:
        """Key identifiers of the CAs that issued their certificates."""
        ...

    def of_issuer(self, issuer: str, serial: str, limit: int) -> Sequence[Contract]:
        """Those with a certificate of this CA's, in the order of serials, from this one on."""
        ...

    def ended(self, now: float, limit: int) -> Sequence[Contract]:
        """Those that have expired, or whose leaf or one of its sub-CAs is revoked."""
        ...


class Statuses(Protocol):
    def get(self, issuer: str, serial: str) -> Status | None: ...
    def put(self, status: Status) -> None: ...
    def known(self, certificates: Sequence[tuple[str, str]]) -> Sequence[Status]:
        """What is known of these (issuer, serial): one query."""
        ...

    def revoked(self, certificates: Sequence[tuple[str, str]]) -> bool:
        """Whether any of these (issuer, serial) is revoked: one query."""
        ...

    def expect(self, certificates: Sequence[tuple[str, str]]) -> None:
        """A hint: `revoked` will be asked of these, some at a time. The database is asked of all
        of them now, and not again before something is locked or written."""
        ...

    def revoke(self, certificates: Sequence[tuple[str, str]], reason: str, at: int) -> None:
        """Those of them that are here and good; of the others nothing is said."""
        ...

    def revoke_issued_by(self, issuer: str, reason: str, at: int) -> None:
        """Every good one of an issuer's."""
        ...

    def revoked_by(self, issuer: str) -> Sequence[Status]: ...
    def revocations(self, issuer: str) -> int:
        """How many `revoked_by` has."""
        ...


class SeenMarks(Protocol):
    def known(self, marks: Sequence[bytes]) -> Sequence[Seen]:
        """Those of them that are here: one query."""
        ...

    def add(self, seen: Sequence[Seen]) -> None:
        """Of marks that are not here. Another writer that adds one of them at once is refused."""
        ...

    def extend(self, mark: bytes, until: int) -> None: ...
    def forget(self, now: float, limit: int) -> int:
        """Delete what may be forgotten, as long as its key may be too; how many."""
        ...


class Clients(Protocol):
    def get(self, client_id: str) -> Client | None: ...
    def all(self) -> Sequence[Client]: ...
    def put(self, client: Client) -> None: ...


class Endpoints(Protocol):
    def get(self, endpoint_id: str) -> Endpoint | None: ...
    def of_owner(self, owner: str) -> Sequence[Endpoint]: ...
    def all(self) -> Sequence[Endpoint]: ...
    def listening(self, audience: str) -> Sequence[Endpoint]:
        """The enabled ones that events for `audience` concern; whatever kinds they want."""
        ...

    def put(self, endpoint: Endpoint) -> None: ...
    def delete(self, endpoint_id: str) -> None:
        """Its deliveries go with it."""
        ...


class Events(Protocol):
    def add(self, event: Event) -> None: ...
    def get(self, event_id: str) -> Event | None: ...
    def since(self, sequence: int, audiences: Sequence[str] | None, limit: int) -> Sequence[Event]:
        """Later events for these audiences (None: all of them), in order."""
        ...

    def last(self) -> int:
        """The highest sequence so far, 0 when there is none."""
        ...

    def forget(self, after: int, before: float, limit: int) -> int | None:
        """Delete events of before that time, and their deliveries, but for those with a delivery
        that is pending or dead, and the latest of all. Looks at `limit` events after this
        sequence: the one to go on after, None when there are no more that are old."""
        ...


class Deliveries(Protocol):
    def get(self, event_id: str, endpoint_id: str) -> Delivery | None: ...
    def put(self, delivery: Delivery) -> None: ...
    def due(self, now: float) -> Sequence[Endpoint]:
        """The enabled ones that something waits for which is due and in nobody's hand."""
        ...

    def claim(
        self, endpoint_id: str, now: float, until: float, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """Take what is due and in nobody's hand, and lease it until then. Of each vehicle only
        the first unfinished one, so that a vehicle's events arrive in order."""
        ...

    def settle(self, taken: Delivery, after: Delivery) -> bool:
        """Put what became of a delivery that `claim` gave; False, and nothing happens, when it
        is no longer in the hand that took it."""
        ...

    def of_endpoint(
        self, endpoint_id: str, state: str | None, limit: int
    ) -> Sequence[tuple[Delivery, Event]]:
        """The latest first."""
        ...


class Audit(Protocol):
    def add(self, entry: AuditEntry) -> None: ...
    def since(self, sequence: int, limit: int) -> Sequence[AuditEntry]: ...


class RootChanges(Protocol):
    def get(self, change_id: str) -> RootChange | None: ...
    def all(self) -> Sequence[RootChange]: ...
    def put(self, change: RootChange) -> None: ...


class EndEntities(Protocol):
    def get(self, common_name: str) -> EndEntity | None: ...
    def of_owner(self, owner: str) -> Sequence[EndEntity]: ...
    def put(self, entity: EndEntity) -> None: ...


class Registry(Protocol):
    def by_vin(self, vin: str) -> RegisteredVehicle | None: ...
    def by_plate(self, plate: str) -> RegisteredVehicle | None: ...
    def by_pcid(self, pcid: str) -> RegisteredVehicle | None: ...
    def put(self, vehicle: RegisteredVehicle) -> None: ...


class GuessBook(Protocol):
    def get(self, who: str, subject: str) -> Guesses | None: ...
    def put(self, guesses: Guesses) -> None: ...
    def delete(self, who: str, subject: str) -> None: ...


class Providers(Protocol):
    def get(self, provider: str) -> Provider | None: ...
    def all(self) -> Sequence[Provider]: ...
    def put(self, provider: Provider) -> None: ...


class Peers(Protocol):
    def get(self, name: str) -> Peer | None: ...
    def all(self) -> Sequence[Peer]: ...
    def put(self, peer: Peer) -> None: ...


class Jobs(Protocol):
    def get(self, job_id: str) -> Job | None: ...
    def all(self) -> Sequence[Job]: ...
    def put(self, job: Job) -> None: ...
    def claim(self, now: float, until: float) -> Job | None:
        """One waiting job that nobody has in hand, leased until then."""
        ...


class Records(Protocol):
    """One transaction over everything the ecosystem keeps."""

    def lock(self, *names: str) -> None:
        """Until this transaction ends, no other that locks one of these names goes on: for what
        is decided from what was read. A vehicle's name is its PCID in upper case. Several names
        in one call, or one order for all: two that wait for each other are both undone."""
        ...

    def ahead(self, *asks: Callable[[], object]) -> None:
        """A hint: what each of these asks first will be asked below. A database that has to be
        waited for is asked all of it together with the next question, and once more what was
        written, or locked, in between. What these return is lost."""
        ...

    def vehicle_with_contracts(
        self, vehicle: str, namespace: str
    ) -> tuple[Provisioning | None, Sequence[Contract]]:
        """`vehicles.get` and `contracts.of_vehicle`, of a vehicle that is there: one query."""
        ...

    @property
    def roots(self) -> Roots: ...
    @property
    def vehicles(self) -> Vehicles: ...
    @property
    def contracts(self) -> Contracts: ...
    @property
    def statuses(self) -> Statuses: ...
    @property
    def seen(self) -> SeenMarks: ...
    @property
    def clients(self) -> Clients: ...
    @property
    def endpoints(self) -> Endpoints: ...
    @property
    def events(self) -> Events: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def changes(self) -> RootChanges: ...
    @property
    def entities(self) -> EndEntities: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def guesses(self) -> GuessBook: ...
    @property
    def providers(self) -> Providers: ...
    @property
    def peers(self) -> Peers: ...
    @property
    def jobs(self) -> Jobs: ...


class Store(Protocol):
    """Opens transactions. `write` is atomic: an exception inside undoes all of it. `at_hand`:
    now nothing has to be waited for but another writer (`plugvault.patience`). `kept`: whether
    what an event loop has read and written at once is kept, which it has to know before it
    answers. If not, nothing was done."""

    @property
    def at_hand(self) -> bool: ...
    def kept(self) -> Awaitable[bool] | bool: ...
    def read(self) -> AbstractContextManager[Records]: ...
    def write(self) -> AbstractContextManager[Records]: ...


def _set(joined: str) -> frozenset[str]:
    return frozenset(joined.split(",")) if joined else frozenset()
