"""A whole Plug & Charge ecosystem in one process: every role, its token, its server, its clients.

    with Ecosystem(directory) as world:
        leaf, subs = world.oem.enrol(csr)
        world.oem.register(leaf, subs, [world.v2g_root])
        emaid = world.mo.contract(pcid)

`companies` lists its roles and `authorities` its PKI, `folder` its files on disk; `assembly` puts
the services together, `server` serves them. The server listens on loopback only, in a thread, at
a port that the system gives.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import httpx

from plugvault.contexts import Startable
from plugvault.ecosystem import assembly, background, server
from plugvault.ecosystem.authorities import LABELS, AnyKey, Authorities, Leaf
from plugvault.ecosystem.companies import CALLERS, EVSE, POOL, PROVIDER, PROVIDER_V2G, WMI
from plugvault.ecosystem.folder import Folder, making
from plugvault.federation.clients import Link
from plugvault.opcp.app import create_app
from plugvault.opcp.services import Settings
from plugvault.pools import clients
from plugvault.pools.caller import CPO, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, OEM, Caller
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.cpo import ChargePointOperator
from plugvault.roles.mo import Operator
from plugvault.roles.oem import VehicleMaker
from plugvault.roles.revocation import Responders
from plugvault.store import SqlStore
from plugvault.tls import Identity, Staple, StationTls
from plugvault.tokens import TokenKey
from plugvault.tokens.selection import TokenConfiguration

__all__ = ["CALLERS", "EVSE", "LABELS", "PROVIDER", "PROVIDER_V2G", "WMI", "Ecosystem", "Leaf"]

Step = Callable[[str, str, float], None]


class Ecosystem(Startable):
    """See the module. The attributes exist while the context lasts.

    url: of the server. oem, mo, mo_v2g, cpo: the roles' clients. v2g_root, oem_root, mo_root: DER.
    telematics_key: the maker's key for the channel to its vehicles. cps, station: leaves with
    their keys. keys: every key, by the label of its token. pins: of each token made here. store:
    the database. links: the credentials for each partner, by its name; empty at first.
    """

    url: str
    oem: VehicleMaker
    mo: Operator
    mo_v2g: Operator
    cpo: ChargePointOperator
    v2g_root: bytes
    oem_root: bytes
    mo_root: bytes
    telematics_key: TokenKey
    cps: Leaf
    station: Leaf
    keys: dict[str, list[AnyKey]]
    store: SqlStore

    def __init__(
        self,
        directory: Path,
        module: Path | None = None,
        on_step: Step | None = None,
        clock: Callable[[], float] = time.time,
        settings: Settings | None = None,
        pool: str = POOL,
        tokens: Path | None = None,
        role_tokens: Mapping[str, TokenConfiguration] = {},
        is_locked: bool = False,
    ) -> None:
        """`directory`, `module`, `tokens`, `role_tokens`: see `Folder`. `on_step(name, detail,
        milliseconds)`: called after each step of the start. `pool`: the company that runs the
        ecosystem. `is_locked`: the caller holds the directory's `sandbox_lock`; otherwise a start
        beside a running sandbox issues nothing."""
        self.directory = directory.absolute()
        self._open_folder = partial(Folder, self.directory, module, tokens, role_tokens)
        self._role_tokens = role_tokens
        self._is_locked = is_locked
        self._on_step = on_step
        self._clock = clock
        self._settings = settings or Settings()
        self._pool = pool
        self._credentials: dict[str, Credentials] = {}
        self.pins: dict[str, str] = {}
        self.links: dict[str, Link] = {}

    def credentials(self, role: str) -> Credentials:
        """The credentials of a role's client. `role`: as in OPCP's JWTs, or ADMIN. Raises KeyError
        for another role."""
        return self._credentials[role]

    def register(self, caller: Caller) -> Credentials:
        """Register one more client, such as a second maker or another operator. Raises PoolError
        as `clients.register`."""
        credentials = clients.new_credentials()
        with self.store.write() as records:
            assembly.register_client(records, caller, credentials, self._clock())
        return Credentials(*credentials, self.url)

    def client(self, role: str) -> OpcpClient:
        """A new client with the role's credentials; it is closed with the ecosystem."""
        return self._stack.enter_context(OpcpClient(self.url, self.credentials(role)))

    def station_tls(self) -> StationTls:
        """TLS for a charging station: the key stays in the CPO's token, and the ecosystem's OCSP
        answer is stapled. It ends with the ecosystem. Raises TlsError."""
        leaf = self.station

        def ask(request: bytes) -> bytes:
            headers = {"content-type": "application/ocsp-request"}
            answer = httpx.post(f"{self.url}/ocsp", content=request, headers=headers)
            return answer.raise_for_status().content

        staple = Staple(leaf.certificate, leaf.subs[0], ask, self._clock)
        self._stack.enter_context(staple)
        sign = leaf.key.sign_digest
        return StationTls([Identity(leaf.certificate, leaf.subs, self.v2g_root, sign, staple)])

    def deliver(self) -> None:
        """Deliver events to webhooks and clean the pools from now on, in a thread. Without this
        call the events wait in the store, and only the stream of events sends them."""
        stop = threading.Event()
        thread = threading.Thread(
            target=background.keep_running,
            args=(self._services, stop),
            name="plugvault-deliver",
            daemon=True,
        )

        def end() -> None:
            stop.set()
            thread.join()

        self._stack.callback(end)
        thread.start()

    def make_tokens(self) -> None:
        """Make the tokens before the first of several ecosystems starts: see `Folder`."""
        self._open_folder().make_tokens(*LABELS)

    def _start(self) -> None:
        with nullcontext(True) if self._is_locked else making(self.directory) as issues:
            self._make(issues)

    def _make(self, issues: bool) -> None:
        folder = self._open_folder()
        listener = self._stack.enter_context(_listen(folder, issues))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with self._step("tokens", f"{len(LABELS)} tokens, each with its own PIN"):
            tokens = folder.tokens(self._stack, *LABELS)
            own = [label for label in LABELS if label not in self._role_tokens]
            self.pins = {label: folder.pin(label) for label in own}
        with self._step("pki", "3 roots, their sub-CAs, the CPS and a station"):
            pki = Authorities(
                folder, tokens, self._clock(), f"{self.url}/ocsp", self._pool, issues=issues
            )
            self.v2g_root, self.oem_root, self.mo_root = pki.v2g.root, pki.oem.root, pki.mo.root
            self.cps, self.station = pki.cps, pki.station
            self.telematics_key, self.keys = pki.telematics, pki.keys
        with self._step("backend", self.url):
            self.store = SqlStore.sqlite(self.directory / "ecosystem.sqlite")
            self._stack.callback(self.store.close)
            for role, pair in assembly.seed(self.store, folder, pki, self._clock()).items():
                self._credentials[role] = Credentials(*pair, self.url)
            self._services = assembly.open_services(
                self._stack,
                pki,
                self.store,
                self.url,
                self._clock,
                self._settings,
                self.links,
            )
            self._stack.enter_context(server.in_thread(create_app(self._services), listener))
            self._connect(pki)

    @contextmanager
    def _step(self, name: str, detail: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self._on_step:
            self._on_step(name, detail, (time.perf_counter() - started) * 1000)

    def _connect(self, pki: Authorities) -> None:
        clock, ocsp = self._clock, f"{self.url}/ocsp"
        # The ecosystem is the OCSP responder of all CAs here, on loopback.
        self.oem = VehicleMaker(self.client(OEM), clock, Responders(["127.0.0.0/8"], clock))
        self.mo = Operator(
            self.client(MO_EXTERNAL_PKI),
            PROVIDER,
            pki.operator,
            ocsp,
            clock,
            on_issue=assembly.certificate_recorder(self.store),
        )
        self.mo_v2g = Operator(self.client(MO_HUBJECT_PKI), PROVIDER_V2G, clock=clock)
        self.cpo = ChargePointOperator(self.client(CPO))


def _listen(folder: Folder, issues: bool) -> socket.socket:
    """A listening socket at the port of the folder's first start, which is in its certificates as
    the address for OCSP; at a free port while another process has that one."""
    if not issues:  # another process has the folder, and with it the port
        return server.listen()
    new: list[socket.socket] = []

    def choose() -> int:
        new.append(server.listen())
        return int(new[0].getsockname()[1])

    port = folder.secret("server", "port", choose)
    if new:
        return new[0]
    try:
        return server.listen(port=port)
    except OSError:
        return server.listen()
