"""The ecosystem for users and their programs: real processes, one address, no set-up.

Each ecosystem has processes that answer, on one listening socket, and processes that deliver
events. All are supervised [`plugvault.processes`] and share one folder and one database. This
process prepares the folder, makes the sample vehicles over HTTP, and then has no key open. Several
ecosystems become partners of each other.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plugvault.contexts import Startable
from plugvault.ecosystem import assembly, samples, server
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.companies import EVSE, MAKER, PROVIDER, PROVIDER_V2G
from plugvault.ecosystem.folder import Folder, sandbox_lock
from plugvault.ecosystem.links import Links
from plugvault.ecosystem.process import WORK, Orders
from plugvault.federation import mesh
from plugvault.federation.clients import Link
from plugvault.opcp import tls
from plugvault.opcp.services import Settings
from plugvault.pools import certificates, clients
from plugvault.pools.caller import MO_EXTERNAL_PKI, OEM, Caller
from plugvault.processes import PATIENCE, ProcessEvent, Supervised
from plugvault.requests import values
from plugvault.requests.write import write
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.mo import Operator
from plugvault.roles.oem import VehicleMaker
from plugvault.store import SqlStore
from plugvault.tokens import Token
from plugvault.tokens.selection import TokenConfiguration

log = logging.getLogger("plugvault.ecosystem.sandbox")

SLOW = 10.0  # seconds until a step of the start that is still at work says so
_PROCESS = "plugvault.ecosystem.process"


@dataclass(frozen=True)
class Plan:
    """One ecosystem to run.

    name: its name for its partners, and the company that runs it. listener: a listening socket;
    local_url: its address on this machine. url: the address that clients use, which may be a load
    balancer's. database: its URL. role_tokens: see `Folder`.
    """

    name: str
    folder: Path
    listener: socket.socket
    local_url: str
    url: str
    database: str
    role_tokens: Mapping[str, TokenConfiguration] = field(default_factory=dict)

    @property
    def ocsp(self) -> str:
        """The URL of the OCSP responder."""
        return f"{self.url}/ocsp"

    @property
    def tls_folder(self) -> Path:
        """The folder with the files for HTTPS."""
        return self.folder / "tls"

    def open_store(self) -> closing[SqlStore]:
        """The database, closed at the end of the context."""
        return closing(SqlStore.open(self.database))

    @contextmanager
    def open_keys(self) -> Iterator[tuple[Folder, Authorities, Token]]:
        """The folder, its authorities and the sample vehicles' token. A process can have the keys
        of one ecosystem open at a time."""
        with ExitStack() as stack:
            folder = Folder(self.folder, role_tokens=self.role_tokens)
            tokens = folder.tokens(stack, *LABELS, samples.TOKEN)
            pki = Authorities(folder, tokens, time.time(), self.ocsp, self.name, edition20=True)
            yield folder, pki, tokens[samples.TOKEN]


@dataclass(frozen=True)
class _Prepared:
    """The data for clients of a prepared ecosystem. tls: their trust in its HTTPS."""

    credentials: dict[str, Credentials]
    v2g_root: bytes
    tls: ssl.SSLContext | None

    def client(self, plan: Plan, role: str) -> OpcpClient:
        """For the start, which waits longer than a running call does."""
        return OpcpClient(plan.local_url, self.credentials[role], self.tls, PATIENCE)


class Sandbox(Startable):
    """The ecosystems of `plans`, running while the context lasts.

    report: the values that clients need, see `plugvault sandbox --help`. Entering raises the
    errors of the preparation (VaultError, PoolError, OSError), ProcessError, and OpcpError when
    the sample vehicles cannot be made.
    """

    report: dict[str, Any]

    def __init__(
        self,
        plans: Sequence[Plan],
        settings: Settings,
        processes: Mapping[str, int],
        requests: Path | None = None,
        secured: bool = False,
        on_step: Callable[[str], None] = lambda _: None,
        observe: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        """`processes`: their number for each ecosystem, by their work; `requests`: a folder to
        put the collection of HTTP requests into; `secured`: HTTPS, by a certificate under the
        ecosystem's own V2G root; `on_step`: called with the name of each step of the start;
        `observe`: called with each event of a process, plain JSON, and must not wait."""
        self._plans = plans
        self._settings = settings
        self._processes = processes
        self._requests = requests
        self._secured = secured
        self._on_step = on_step
        self._observe = observe
        self._running: list[Supervised] = []

    def _start(self) -> None:
        for plan in self._plans:
            self._stack.enter_context(sandbox_lock(plan.folder))
        # The processes load their libraries while this one makes keys and certificates.
        self._stack.callback(self._stop_processes)
        processes = [
            (plan, work, self._spawn(plan, work))
            for plan in self._plans
            for work in WORK
            for _ in range(self._processes[work])
        ]
        with self._step("Keys in tokens, certificates, roles"):
            prepared = {plan.name: self._prepare(plan) for plan in self._plans}
            self._register_partners()
            self._save_links({name: ecosystem.v2g_root for name, ecosystem in prepared.items()})
        # One after the other: a login writes to the token, and SoftHSM does not find a token that
        # is being written to.
        for number, (plan, work, process) in enumerate(processes, 1):
            with self._step(f"Processes that answer and deliver, {number} of {len(processes)}"):
                process.start(self._orders(plan, work).line())
        with self._step("Sample vehicles"):
            self._make_samples(prepared)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """A step of the start, which says when it takes long."""
        self._on_step(name)
        text = "the start takes long: %s (up to %.0f s for each process and each answer)"
        timer = threading.Timer(SLOW, log.warning, (text, name, PATIENCE))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _spawn(self, plan: Plan, work: str) -> Supervised:
        def tell(event: ProcessEvent) -> None:
            values = event._asdict()
            name = values.pop("name")
            self._observe({"event": name, "ecosystem": plan.name, "work": work, **values})

        fd = plan.listener.fileno()
        process = Supervised(_PROCESS, str(fd), pass_fds=[fd], observe=tell)
        self._running.append(process)
        return process

    def _stop_processes(self) -> None:
        for process in self._running:  # all of them first: each may take some seconds
            process.ask_to_end()
        for process in self._running:
            process.close()

    def _prepare(self, plan: Plan) -> _Prepared:
        with plan.open_keys() as (folder, pki, _), plan.open_store() as store:
            roles = assembly.seed(store, folder, pki, time.time())
            credentials = {role: Credentials(*pair, plan.url) for role, pair in roles.items()}
            context = _prepare_tls(plan, pki, store) if self._secured else None
            return _Prepared(credentials, pki.v2g.root, context)

    def _register_partners(self) -> None:
        """Make partners of the ecosystems that have none yet."""
        now = time.time()
        with ExitStack() as stack:
            newcomers = []
            for plan in self._plans:
                store = stack.enter_context(plan.open_store())
                with store.read() as records:
                    has_partners = bool(records.peers.all())
                if not has_partners:
                    register = _partner_registration(plan, store, now)
                    newcomers.append(mesh.Partner(plan.name, plan.url, store, register))
            mesh.connect(newcomers, now)

    def _save_links(self, v2g_roots: Mapping[str, bytes]) -> None:
        """Put the credentials for every partner into the folder of each ecosystem."""
        for plan in self._plans:
            links = {}
            for partner in self._plans:
                if partner is not plan:
                    root = ssl.DER_cert_to_PEM_cert(v2g_roots[partner.name])
                    credentials = vars(_partner_credentials(partner, plan.name))
                    links[partner.name] = Link(
                        **credentials, trust=root if self._secured else None
                    )
            if links:
                Links(plan.folder).save(links)

    def _make_samples(self, prepared: Mapping[str, _Prepared]) -> None:
        """Make the sample vehicles, the report, and the collection of requests."""
        reports = {}
        variables: dict[str, str] = {}
        v2g_roots = [ecosystem.v2g_root for ecosystem in prepared.values()]
        for series, plan in enumerate(self._plans, 1):
            credentials = prepared[plan.name].credentials
            with _inputs(plan, prepared[plan.name], v2g_roots) as (folder, inputs):
                cars = [
                    car.as_data()
                    for car in samples.provide(
                        folder, inputs.vehicles, inputs.maker, inputs.operator, v2g_roots, series
                    )
                ]
                reports[plan.name] = _report(plan, credentials, cars)
                if self._requests and series <= 2:  # the first ecosystem, and one partner
                    make = values.values if series == 1 else values.partner
                    variables.update(make(inputs, cars))
        first = reports[self._plans[0].name]
        self.report = first if len(reports) == 1 else {**first, "providers": reports}
        if self._requests:
            write(self._requests, variables)

    def _orders(self, plan: Plan, work: str) -> Orders:
        return Orders(
            work=work,
            directory=str(plan.folder),
            url=plan.url,
            database=plan.database,
            pool=plan.name,
            settings=self._settings,
            tls_folder=str(plan.tls_folder) if self._secured else None,
            shared=self._processes["answer"] > 1,
            role_tokens=plan.role_tokens,
        )


def _partner_credentials(plan: Plan, partner: str) -> Credentials:
    """The credentials of `partner` at this ecosystem, kept in this ecosystem's folder."""
    folder = Folder(plan.folder)
    return Credentials(*folder.secret("partners", partner, clients.new_credentials), plan.url)


def _partner_registration(
    plan: Plan, store: SqlStore, now: float
) -> Callable[[Caller], Credentials]:
    def register(caller: Caller) -> Credentials:
        credentials = _partner_credentials(plan, caller.name)
        with store.write() as records:
            pair = (credentials.client_id, credentials.client_secret)
            clients.register(records, caller, pair, assembly.SET_UP.name, now)
        return credentials

    return register


def _prepare_tls(plan: Plan, pki: Authorities, store: SqlStore) -> ssl.SSLContext:
    """Make the certificates for HTTPS; the context of a client that trusts them."""
    hosts = [urlsplit(url).hostname or "" for url in (plan.url, plan.local_url)]
    certificate = tls.prepare(
        plan.tls_folder,
        pki.enrolment["cpo"],
        pki.enrolment.values(),
        list(dict.fromkeys([*hosts, "localhost", "127.0.0.1"])),
        time.time(),
    )
    if certificate:
        with store.write() as records:
            certificates.record(records, certificate)
    server.clear_openssl_errors()
    return ssl.create_default_context(cadata=pki.v2g.root)


@contextmanager
def _inputs(
    plan: Plan, prepared: _Prepared, v2g_roots: Sequence[bytes]
) -> Iterator[tuple[Folder, values.Inputs]]:
    """The folder, and what the sample vehicles and the values of the collection are made with."""
    with (
        plan.open_keys() as (folder, pki, token),
        plan.open_store() as store,
        prepared.client(plan, OEM) as maker,
        prepared.client(plan, MO_EXTERNAL_PKI) as operator,
    ):
        on_issue = assembly.certificate_recorder(store)
        yield (
            folder,
            values.Inputs(
                url=plan.url,
                credentials=prepared.credentials,
                vehicles=token,
                maker=VehicleMaker(maker),
                operator=Operator(operator, PROVIDER, pki.operator, plan.ocsp, on_issue=on_issue),
                company=MAKER,
                v2g_roots=list(dict.fromkeys([pki.v2g.root, *v2g_roots])),
                hosted=PROVIDER_V2G,
                evseid=EVSE,
            ),
        )


def _report(
    plan: Plan, roles: Mapping[str, Credentials], cars: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "url": plan.url,
        "token_url": f"{plan.url}/oauth/token",
        "roles": {role: vars(credentials) for role, credentials in roles.items()},
        "vehicles": cars,
    }
