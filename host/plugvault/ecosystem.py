"""A whole Plug & Charge ecosystem in one process: every role, its token, its server, its clients.

    with Ecosystem(directory) as world:
        leaf, subs = world.oem.enrol(csr)
        world.oem.register(leaf, subs, [world.v2g_root])
        emaid = world.mo.contract(pcid)

Each role has a PKCS#11 token of its own with a random PIN that only this process knows; the PKI
is made anew at each start, so what a directory held before is not taken up again. The server
listens on loopback only, in a thread, at a port the system gives.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from plugvault.hsm import Hsm, Token, TokenKey, TokenStore, rsa
from plugvault.hsm.rsa import TokenRsaKey
from plugvault.opcp.app import create_app
from plugvault.opcp.services import Services
from plugvault.opcp.tokens import Tokens
from plugvault.pki import path
from plugvault.pki.issue import Authority, issue, root, subordinate
from plugvault.pki.keys import raw_signer
from plugvault.pools import rcp
from plugvault.pools.caller import (
    ADMIN,
    CPO,
    CPS,
    MO_EXTERNAL_PKI,
    MO_HUBJECT_PKI,
    OEM,
    Caller,
)
from plugvault.pools.cps import Signer
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.cpo import ChargePointOperator
from plugvault.roles.mo import Operator
from plugvault.roles.oem import Maker
from plugvault.store import SqlStore

Step = Callable[[str, str, float], None]

WMI = "PVT"
PROVIDER = "DEPVA"  # the operator with its own PKI
PROVIDER_V2G = "DEPVB"  # the operator that uses the ecosystem's
EVSE = "DE*PVC*E000001"
POOL, MAKER, OPERATOR, CHARGE_POINTS = "Example Pool", "Example Cars", "Operator A", "Example CPO"
LABELS = ("v2g", "oem", "mo", "cps", "cpo", "auth")  # one token for each who has keys

_START = 10.0  # seconds the server may take to start, or to stop

CALLERS = (
    Caller(MAKER, frozenset({OEM}), wmis=frozenset({WMI})),
    Caller(OPERATOR, frozenset({MO_EXTERNAL_PKI}), providers=frozenset({PROVIDER})),
    Caller("Operator B", frozenset({MO_HUBJECT_PKI}), providers=frozenset({PROVIDER_V2G})),
    Caller(CHARGE_POINTS, frozenset({CPO})),
    Caller("CPS", frozenset({CPS})),
    Caller("Administrator", frozenset({ADMIN})),
)


@dataclass(frozen=True)
class Leaf:
    """A certificate with its path and its key in a token."""

    certificate: bytes
    subs: tuple[bytes, ...]
    key: TokenKey


@dataclass(frozen=True)
class _Pki:
    """The CAs that issue to others: provisioning, contracts of the operator, of the pool; and
    what signs access tokens."""

    vehicles: Authority
    operator: Authority
    hosted: Authority
    tokens: TokenRsaKey


class Ecosystem:
    """See the module. Everything below is there between `__enter__` and `__exit__`.

    url: of the server. oem, mo, mo_v2g, cpo: the roles' clients. v2g_root, oem_root,
    mo_root: DER. telematics_key: the maker's key for the channel to its vehicles; cps, station:
    leaves with their keys. keys: every key made, by the token it is in. pins: of each token.
    """

    url: str
    oem: Maker
    mo: Operator
    mo_v2g: Operator
    cpo: ChargePointOperator
    v2g_root: bytes
    oem_root: bytes
    mo_root: bytes
    telematics_key: TokenKey
    cps: Leaf
    station: Leaf

    def __init__(
        self,
        directory: Path,
        module: Path | None = None,
        on_step: Step | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`directory`: for tokens and database, made when missing, for its owner only.
        `on_step(name, detail, milliseconds)`: called as each part is done."""
        self.directory = directory
        self._module = module
        self._on_step = on_step
        self._clock = clock
        self._stack = ExitStack()
        self._credentials: dict[str, Credentials] = {}
        self.pins: dict[str, str] = {}
        self.keys: dict[str, list[TokenKey | TokenRsaKey]] = {}

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

    def credentials(self, role: str) -> Credentials:
        """What a client of this role asks for a token with; role as in OPCP's JWTs, or ADMIN."""
        return self._credentials[role]

    def register(self, caller: Caller) -> Credentials:
        """Let one more party in: a second maker, a rival operator."""
        return Credentials(*self._tokens.register(caller), self.url)

    def client(self, role: str) -> OpcpClient:
        """A new client with the role's credentials; it is closed with the ecosystem."""
        return self._stack.enter_context(OpcpClient(self.url, self.credentials(role)))

    def _start(self) -> None:
        # With its protocol named: asyncio turns Nagle's delay off only where it sees TCP.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._stack.enter_context(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with self._step("tokens", f"{len(LABELS)} tokens, each with its own PIN"):
            tokens = self._open_tokens()
        with self._step("pki", "3 roots, their sub-CAs, the CPS and a station"):
            pki = self._issue(tokens)
        with self._step("backend", self.url):
            self._serve(self._services(pki), listener)
            self._connect(pki)

    @contextmanager
    def _step(self, name: str, detail: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self._on_step:
            self._on_step(name, detail, (time.perf_counter() - started) * 1000)

    def _open_tokens(self) -> dict[str, Token]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = TokenStore(self.directory / "tokens", self._module)
        self.pins = {label: secrets.token_hex(8) for label in LABELS}
        for label, pin in self.pins.items():
            store.init_token(label, pin, secrets.token_hex(8))
        hsm = self._stack.enter_context(Hsm(store.module, store.conf))
        return {label: hsm.token(label, self.pins[label]) for label in LABELS}

    def _issue(self, tokens: dict[str, Token]) -> _Pki:
        now, ocsp = self._clock(), f"{self.url}/ocsp"

        def key(token: str, name: str) -> TokenKey:
            made = tokens[token].generate(name)
            self.keys.setdefault(token, []).append(made)
            return made

        def below(above: Authority, token: str, kind: str, prefix: str, owner: str) -> Authority:
            """Sub1 and Sub2 of one branch; the Sub2, which issues leaves."""
            for level in ("sub1", "sub2"):
                names = {**_company(owner), "CN": f"{prefix} {level.capitalize()} CA"}
                branch = f"{prefix}-{level}".lower().replace(" ", "-")
                above = subordinate(f"{kind}-{level}", names, key(token, branch), above, now, ocsp)
            return above

        def leaf(profile: str, name: str, owner: str, above: Authority) -> Leaf:
            made = key(profile, f"{profile}-leaf")
            names = {**_company(owner), "CN": name}
            certificate = issue(profile, names, made.public_key(), above, now, ocsp=ocsp)
            return Leaf(certificate, tuple(above.path), made)

        v2g = root("v2g", {**_company(POOL), "CN": "V2G Root CA"}, key("v2g", "root"), now)
        oem = root("oem", {**_company(MAKER), "CN": "OEM Root CA"}, key("oem", "root"), now)
        mo = root("mo", {**_company(OPERATOR), "CN": "MO Root CA"}, key("mo", "root"), now)
        self.v2g_root, self.oem_root, self.mo_root = v2g.root, oem.root, mo.root
        self.telematics_key = key("oem", "telematics")
        self.cps = leaf("cps", "CPS 1", POOL, below(v2g, "v2g", "v2g", "Prov", POOL))
        self.station = leaf("cpo", EVSE, CHARGE_POINTS, below(v2g, "v2g", "v2g", "CPO", POOL))
        access = rsa.generate(tokens["auth"], "access-tokens")
        self.keys["auth"] = [access]
        return _Pki(
            tokens=access,
            vehicles=below(oem, "oem", "oem", "OEM", MAKER),
            operator=below(mo, "mo", "mo", "MO", OPERATOR),
            hosted=below(v2g, "v2g", "v2g", "V2G MO", POOL),
        )

    def _services(self, pki: _Pki) -> Services:
        store = SqlStore.sqlite(self.directory / "ecosystem.sqlite")
        self._stack.callback(store.close)
        with store.write() as records:
            for kind, certificate in (
                ("V2G", self.v2g_root),
                ("OEM", self.oem_root),
                ("MO", self.mo_root),
            ):
                rcp.put(records, certificate, kind, self._clock())
        self._tokens = Tokens(self.url, self._clock, pki.tokens)
        for caller in CALLERS:
            credentials = self.register(caller)
            self._credentials.update(dict.fromkeys(caller.roles, credentials))
        signer = Signer(
            self.cps.certificate,
            self.cps.subs,
            path.fingerprint(self.v2g_root),
            raw_signer(self.cps.key),
        )
        return Services(
            store=store,
            tokens=self._tokens,
            signers=[signer],
            enrolment={"oem": pki.vehicles},
            operator=pki.hosted,
            ocsp=f"{self.url}/ocsp",
            clock=self._clock,
        )

    def _serve(self, services: Services, listener: socket.socket) -> None:
        config = uvicorn.Config(
            create_app(services),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="plugvault-opcp", daemon=True
        )
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(_START)

        self._stack.callback(stop)
        deadline = time.monotonic() + _START
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the OPCP server did not start")
            time.sleep(0.002)

    def _connect(self, pki: _Pki) -> None:
        ocsp, clock = f"{self.url}/ocsp", self._clock
        self.oem = Maker(self.client(OEM), clock)
        self.mo = Operator(self.client(MO_EXTERNAL_PKI), PROVIDER, pki.operator, ocsp, clock)
        self.mo_v2g = Operator(self.client(MO_HUBJECT_PKI), PROVIDER_V2G, clock=clock)
        self.cpo = ChargePointOperator(self.client(CPO))


def _company(name: str) -> dict[str, str]:
    return {"C": "DE", "O": name}
