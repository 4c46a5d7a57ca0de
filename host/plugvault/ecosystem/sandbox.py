"""The ecosystem for people and their programs: real processes, one address, nothing to set up.

Each ecosystem has processes that answer, on one listening socket, and processes that deliver
events. All are supervised [`plugvault.processes`] and share one folder and one database. This
process prepares the folder, makes the sample vehicles over HTTP, and then has no key open.
Several ecosystems become partners of each other.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from plugvault.ecosystem import assembly, samples, server
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.companies import EVSE, MAKER, PROVIDER, PROVIDER_V2G
from plugvault.ecosystem.folder import Folder, alone
from plugvault.ecosystem.links import Links
from plugvault.ecosystem.process import WORK, Orders
from plugvault.federation import mesh
from plugvault.federation.peers import Link
from plugvault.opcp import tls
from plugvault.opcp.services import Settings
from plugvault.pools import certificates, clients
from plugvault.pools.caller import MO_EXTERNAL_PKI, OEM, Caller
from plugvault.processes import Supervised
from plugvault.requests import values
from plugvault.requests.write import write
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.mo import Operator
from plugvault.roles.oem import VehicleMaker
from plugvault.store import SqlStore
from plugvault.tokens import Token
from plugvault.tokens.selection import TokenConfiguration

_PROCESS = "plugvault.ecosystem.process"


@dataclass(frozen=True)
class Plan:
    """One ecosystem to run. `name`: what its partners call it, and the company that runs it;
    `listener`: a listening socket, `local`: its address from this machine; `url`: the address
    clients use, which may lead elsewhere first; `database`: its URL; `role_tokens`: see
    `Folder`."""

    name: str
    folder: Path
    listener: socket.socket
    local: str
    url: str
    database: str
    role_tokens: Mapping[str, TokenConfiguration] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ready:
    """What the first look into an ecosystem's tokens left behind. `trust`: to call it with."""

    credentials: dict[str, Credentials]
    v2g_root: bytes
    trust: ssl.SSLContext | None


class Sandbox:
    """Up between `__enter__` and `__exit__`. `processes`: of each ecosystem, by their work.

    report: what clients need to know, as `plugvault sandbox --help` says. Raises what preparing
    raises (VaultError, PoolError, OSError), ProcessError, and OpcpError when the sample vehicles
    cannot be made.
    """

    report: dict[str, Any]

    def __init__(
        self,
        plans: Sequence[Plan],
        settings: Settings,
        processes: dict[str, int],
        requests: Path | None = None,
        secured: bool = False,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`requests`: a folder to put the collection of HTTP requests into; `secured`: HTTPS, by
        a certificate under the ecosystem's own V2G root; `on_step`: is told what is being
        done, while it starts."""
        self._on_step = on_step
        self._secured = secured
        self._plans = plans
        self._requests = requests
        self._settings = settings
        self._processes = processes
        self._stack = ExitStack()
        self._running: list[Supervised] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        for plan in self._plans:
            self._stack.enter_context(alone(plan.folder))
        # They load their libraries while this process makes keys and certificates.
        self._stack.callback(self._end)
        waiting = [
            (plan, work, self._spawn(plan))
            for plan in self._plans
            for work in WORK
            for _ in range(self._processes[work])
        ]
        self._on_step("Keys in tokens, certificates, roles")
        ready = {plan.name: self._prepare(plan) for plan in self._plans}
        self._introduce(ready)
        self._on_step("Processes that answer and deliver")
        # One after the other: who logs in to a token writes to it, and SoftHSM does not find a
        # token that is being written to.
        for plan, work, process in waiting:
            process.start(self._orders(plan, work).line())
        trusts = [one.v2g_root for one in ready.values()]
        worlds, variables = {}, []
        self._on_step("Sample vehicles")
        for series, plan in enumerate(self._plans, 1):
            credentials = ready[plan.name].credentials
            with self._opened(plan, samples.TOKEN) as (folder, pki, token), ExitStack() as stack:
                oem, mo = (
                    stack.enter_context(
                        OpcpClient(plan.local, credentials[role], ready[plan.name].trust)
                    )
                    for role in (OEM, MO_EXTERNAL_PKI)
                )
                store = stack.enter_context(closing(SqlStore.open(plan.database)))
                maker = VehicleMaker(oem)
                operator = Operator(
                    mo,
                    PROVIDER,
                    pki.operator,
                    f"{plan.url}/ocsp",
                    on_issue=assembly.register_of(store),
                )
                cars = samples.provide(folder, token, maker, operator, trusts, series)
                worlds[plan.name] = _report(plan, credentials, cars)
                if self._requests and series <= 2:  # the first, and one to be its partner
                    bench = values.Inputs(
                        url=plan.url,
                        credentials=credentials,
                        vehicles=token,
                        maker=maker,
                        operator=operator,
                        company=MAKER,
                        v2g_roots=[pki.v2g.root, *trusts],
                        hosted=PROVIDER_V2G,
                        evseid=EVSE,
                    )
                    make = values.values if series == 1 else values.partner
                    variables.append(make(bench, [car.as_data() for car in cars]))
        first = worlds[self._plans[0].name]
        self.report = first if len(worlds) == 1 else {**first, "providers": worlds}
        if self._requests:
            write(self._requests, {name: one[name] for one in variables for name in one})

    def _spawn(self, plan: Plan) -> Supervised:
        fd = plan.listener.fileno()
        process = Supervised(_PROCESS, str(fd), pass_fds=[fd])
        self._running.append(process)
        return process

    def _end(self) -> None:
        for process in self._running:  # all at once: each may take its time
            process.ask_to_end()
        for process in self._running:
            process.close()

    @contextmanager
    def _opened(self, plan: Plan, label: str) -> Iterator[tuple[Folder, Authorities, Token]]:
        """An ecosystem's keys, and one token more; one ecosystem at a time."""
        with ExitStack() as stack:
            folder = Folder(plan.folder, role_tokens=plan.role_tokens)
            tokens = folder.tokens(stack, *LABELS, label)
            pki = Authorities(
                folder, tokens, time.time(), f"{plan.url}/ocsp", plan.name, edition20=True
            )
            yield folder, pki, tokens[label]

    def _prepare(self, plan: Plan) -> _Ready:
        with (
            self._opened(plan, samples.TOKEN) as (folder, pki, _),
            closing(SqlStore.open(plan.database)) as store,
        ):
            roles = assembly.seed(store, folder, pki, time.time())
            credentials = {role: Credentials(*pair, plan.url) for role, pair in roles.items()}
            trust = _secure(plan, pki, store) if self._secured else None
            return _Ready(credentials, pki.v2g.root, trust)

    def _introduce(self, ready: Mapping[str, _Ready]) -> None:
        """Make partners of those who are not yet; keep what each calls the others with."""
        now = time.time()
        with ExitStack() as stack:
            parties = []
            for plan in self._plans:
                store = stack.enter_context(closing(SqlStore.open(plan.database)))
                with store.read() as records:
                    known = bool(records.peers.all())

                def register(
                    caller: Caller, plan: Plan = plan, store: SqlStore = store
                ) -> Credentials:
                    kept = self._link(plan, caller.name)
                    with store.write() as records:
                        pair = (kept.client_id, kept.client_secret)
                        clients.register(records, caller, pair, assembly.SET_UP.name, now)
                    return kept

                if not known:
                    parties.append(mesh.Partner(plan.name, plan.url, store, register))
            mesh.connect(parties, now)
        roots = {name: ssl.DER_cert_to_PEM_cert(one.v2g_root) for name, one in ready.items()}
        for asking in self._plans:
            links = {
                asked.name: Link(
                    **vars(self._link(asked, asking.name)),
                    trust=roots[asked.name] if self._secured else None,
                )
                for asked in self._plans
                if asked is not asking
            }
            if links:
                Links(asking.folder).keep(links)

    def _link(self, asked: Plan, asking: str) -> Credentials:
        folder = Folder(asked.folder)
        return Credentials(*folder.secret("partners", asking, clients.new_credentials), asked.url)

    def _orders(self, plan: Plan, work: str) -> Orders:
        return Orders(
            work=work,
            directory=str(plan.folder),
            url=plan.url,
            database=plan.database,
            pool=plan.name,
            settings=self._settings,
            secured=str(_tls(plan)) if self._secured else None,
            shared=self._processes["answer"] > 1,
            role_tokens=plan.role_tokens,
        )


def _tls(plan: Plan) -> Path:
    return plan.folder / "tls"


def _secure(plan: Plan, pki: Authorities, store: SqlStore) -> ssl.SSLContext:
    """Make what HTTPS needs; how to trust it."""
    hosts = [urlsplit(url).hostname or "" for url in (plan.url, plan.local)]
    made = tls.prepare(
        _tls(plan),
        pki.enrolment["cpo"],
        pki.enrolment.values(),
        list(dict.fromkeys([*hosts, "localhost", "127.0.0.1"])),
        time.time(),
    )
    if made:
        with store.write() as records:
            certificates.record(records, made)
    server.forget_errors()
    return ssl.create_default_context(cadata=pki.v2g.root)


def _report(
    plan: Plan, credentials: dict[str, Credentials], cars: Sequence[samples.Sample]
) -> dict[str, Any]:
    return {
        "url": plan.url,
        "token_url": f"{plan.url}/oauth/token",
        "roles": {role: vars(given) for role, given in credentials.items()},
        "vehicles": [car.as_data() for car in cars],
    }
