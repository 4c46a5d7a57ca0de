"""The services that the HTTP interface uses; the assembly of the ecosystem makes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import Message
from plugvault.failing import FailingLoops
from plugvault.opcp.tokens import Tokens
from plugvault.pki.issue import Authority
from plugvault.pools.cps import Signer
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Store


@dataclass(frozen=True)
class Settings:
    """The choices of an ecosystem's administrator.

    `open`: a caller without a token has every role but a partner's; `dual_control`: a root changes
    only when a second administrator agrees; `registered_stations`: a station's certificate is
    issued only after `PUT /v1/vra/cpo/endEntities`; `hosts`: names of this server beside that of
    its address and the loopback's; `networks`: as in "127.0.0.0/8", addresses that webhooks and
    revocation checks may reach although they are not public; `retries` and `retry_after`
    (seconds): of a webhook delivery; `keep_events`: seconds for which a delivered event stays in
    the store.
    """

    open: bool = False
    dual_control: bool = False
    registered_stations: bool = False
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    retries: int = 3
    retry_after: float = 3600.0
    keep_events: float = 30 * 86_400.0


class Bundle(Protocol):
    """Another ecosystem's contract for a vehicle. `message`: the CertificateInstallationRes, EXI;
    `root_fingerprint`: SHA-256 of the V2G root above its CPS, hexadecimal."""

    @property
    def message(self) -> bytes: ...
    @property
    def emaid(self) -> str: ...
    @property
    def root_fingerprint(self) -> str: ...
    @property
    def metadata(self) -> str | None: ...


class Peers(Protocol):
    """The partner ecosystems, for requests that this one cannot answer.

    A partner that fails counts as a partner without an answer: no method raises for it.
    """

    @property
    def linked(self) -> bool:
        """Whether there is a partner to ask."""
        ...

    def refresh_vehicle(self, pcid: str) -> None:
        """Update PCP's copy of a partner's vehicle. A vehicle of this ecosystem is not touched."""
        ...

    def install(self, request: bytes, roots: Sequence[tuple[str, int]]) -> Bundle | None:
        """A contract for a vehicle's CertificateInstallationReq (EXI), under one of the roots it
        lists: (issuer name, serial number). None when no partner has one."""
        ...

    def sign(self, data: ContractData, vehicle: Provisioning) -> Message | None:
        """Contract data that a partner's CPS signed under a root that this vehicle has. None when
        no partner can sign."""
        ...

    def fetch_roots(self) -> bool:
        """Fetch the partners' roots into RCP. True when RCP has got a new root."""
        ...


@dataclass(frozen=True)
class Services:
    """Everything that the endpoints use.

    `signers`: the CPS under each V2G root; `enrolment`: the issuing CA for each name EST serves:
    "oem", …, and on other curves than P-256 "oem/secp521r1", …; `operator`: the MO CA for
    operators without an own PKI; `ocsp`: the URL of the OCSP responder in certificates issued
    here; `authorities`: every CA whose certificates OCSP and CRLs cover;
    `webhook_secret(endpoint_id)`: the HMAC key of the deliveries; `clock()`: Unix seconds.

    `update_revocations(certificates, caller)`: ask the OCSP responders of foreign CAs about these
    certificates (DER) and store what is revoked; `caller`: the client_id that waits for it, or
    None. `revocations_are_due(certificates)`: whether that call would ask a responder. `failing`:
    the loops of this process that fail now.
    """

    store: Store
    tokens: Tokens
    signers: Sequence[Signer]
    enrolment: Mapping[str, Authority] = field(repr=False)
    operator: Authority | None
    ocsp: str | None
    clock: Callable[[], float]
    authorities: Sequence[Authority] = field(default=(), repr=False)
    webhook_secret: Callable[[str], str] = field(default=lambda _: "", repr=False)
    update_revocations: Callable[[Sequence[bytes], str | None], None] = lambda _, __: None
    revocations_are_due: Callable[[Sequence[bytes]], bool] = lambda _: False
    peers: Peers | None = None
    settings: Settings = Settings()
    failing: FailingLoops = field(default_factory=FailingLoops, repr=False)


async def services(request: Request) -> Services:
    """The services of the running application: a FastAPI dependency."""
    running: Services = request.app.state.services
    return running
