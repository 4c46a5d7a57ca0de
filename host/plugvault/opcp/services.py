"""The services that the HTTP face gets from outside, handed over once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import Message
from plugvault.opcp.tokens import Tokens
from plugvault.pki.issue import Authority
from plugvault.pools.cps import Signer
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Store


@dataclass(frozen=True)
class Settings:
    """The choices of an ecosystem's administrator.

    `open`: anyone may play any role without a token; `dual_control`: a root changes only when a
    second administrator agrees; `registered_stations`: a station's certificate is issued only
    after `PUT /v1/vra/cpo/endEntities`; `hosts`: names of this server beside that of its address
    and the loopback's; `networks`: as in "127.0.0.0/8", addresses that webhooks and revocation
    checks may reach although they are not public; `retries` and `retry_after` (seconds): of a
    webhook delivery; `keep_events`: seconds an event stays that was delivered.
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
    """Another ecosystem's contract for a vehicle. `message`: EXI."""

    @property
    def message(self) -> bytes: ...
    @property
    def emaid(self) -> str: ...
    @property
    def root_fingerprint(self) -> str: ...
    @property
    def metadata(self) -> str | None: ...


class Peers(Protocol):
    """The partner ecosystems, for requests that this one cannot answer. A partner that fails
    counts as one without an answer, and raises nothing."""

    @property
    def linked(self) -> bool:
        """Whether there is a partner to ask."""
        ...

    def refresh_vehicle(self, pcid: str) -> None:
        """Update PCP's copy of a partner's vehicle; nothing for a vehicle of ours."""
        ...

    def install(self, request: bytes, roots: Sequence[tuple[str, int]]) -> Bundle | None:
        """A contract for a vehicle's CertificateInstallationReq (EXI), under one of the roots it
        lists: (issuer name, serial number)."""
        ...

    def sign(self, data: ContractData, vehicle: Provisioning) -> Message | None:
        """Contract data signed under a root that this vehicle has."""
        ...

    def fetch_roots(self) -> bool:
        """Fetch their roots into RCP; whether there were new ones."""
        ...


@dataclass(frozen=True)
class Services:
    """`signers`: the CPS under each V2G root. `enrolment`: the issuing CA for each name EST
    serves: "oem", …, and on other curves than P-256 "oem/secp521r1", …. `operator`: the MO CA for
    operators without an own PKI. `ocsp`: the responder's address for certificates issued here.
    `authorities`: every CA whose certificates OCSP and CRLs speak of.
    `webhook_secret(endpoint_id)`: what its deliveries are signed with.
    `update_revocations(certificates, caller)`: enter what foreign CAs revoked of a path, DER, for
    a client_id that waits for it, or None;
    `revocations_are_due(certificates)`: whether that would ask a responder.
    `clock()`: Unix seconds."""

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


async def services(request: Request) -> Services:
    """The services of the running application (a FastAPI dependency)."""
    running: Services = request.app.state.services
    return running
