"""The steps of the demo: a car is made, gets two contracts in two ways, and charges with each.

Each step is a function. The tokens, HTTP, the module in a process of its own and the bytes on a
serial line are real. Each step checks its claims.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from evcc import chain
from evcc.iso15118_2 import installation
from plugvault import runtimes
from plugvault.car import Car
from plugvault.ecosystem import EVSE, LABELS, WMI, Ecosystem
from plugvault.pki import path
from plugvault.roles.backend import Backend
from plugvault.roles.work_queue import DONE, INSTALL
from plugvault.runtimes import Runtime
from plugvault.station import Authorized, Offer, Station, StationSettings
from plugvault.telematics import ContractStatus, Maker
from plugvault.tokens import providers
from plugvault.tokens.lease import exclusive_lease
from plugvault.tokens.selection import NO_SELECTION, Selection, TokenConfiguration

from .board import DemoBoard
from .record import DemoError, DemoRecord, Step

REGION = "EU"
COUNTRY, MAKER = "DE", "Example Cars"
_INSTALLATION = 180.0  # seconds: a board verifies each signature in some seconds
INSTALLED = [*(name for name, _ in installation.CHECKS), "key-opened", "committed"]


def choose_runtime(name: str | None) -> Runtime:
    """The interpreter for the car's module.

    name: "cpython", "micropython", or None for MicroPython if there is one, else CPython.
    """
    if name != "cpython":
        for micropython in ("debian", "wheel"):
            runtime = runtimes.get(micropython)
            if runtime is not None:
                return runtime
        if name == "micropython":
            raise DemoError("no MicroPython here: `make` fetches one, `plugvault doctor` says why")
    return runtimes.cpython()


class Walkthrough:
    """One run of the demo."""

    def __init__(
        self,
        record: DemoRecord,
        runtime: Runtime,
        link: str,
        folder: Path,
        keep: bool = False,
        selection: Selection = NO_SELECTION,
        board: tuple[str, str | None] | None = None,
    ) -> None:
        """folder: for all files of the run. keep: store the tokens' PINs in it (`pins.json`, mode
        0600) and the roots, to examine the run afterwards. selection: the user's own token for
        the car; it must hold no car's keys, and holds none after the run. board: the ports of a
        board in place of the car's process, see `DemoBoard`."""
        self.record = record
        self.keep = keep
        self._selection = selection
        self.runtime = runtime
        self.link = DemoBoard.link if board else link
        self._board = board
        self.folder = folder
        self.pcid = WMI + "P" + "".join(secrets.choice("0123456789") for _ in range(13))
        self.car: Car | DemoBoard
        self.paths: dict[str, str] = {}  # by EMAID: the path of the contract into the car
        self._captures = 0
        self._station_bytes = {"in": 0, "out": 0}
        self._http_bytes = {"in": 0, "out": 0}
        self._counting = threading.Lock()
        self._step: Step | None = None
        self._stack = ExitStack()
        self._log: list[str] = []
        self._station_checks: list[str] = []  # of the latest session: the station, and its TLS

    def run(self) -> None:
        """Run all steps. Raises the error of the step that fails; DemoError for a wrong claim."""
        runtime = "board" if self._board else f"{self.runtime.name} {self.runtime.version}"
        self.record.facts.update(runtime=runtime, link=self.link, pcid=self.pcid)
        with self._stack:
            try:
                self._start_ecosystem()
                self._make_car()
                first = self._first_contract()
                self._install_at_the_station(first)
                second = self._install_over_the_air()
                self._charge_with_each(second, first)
                self._summarise()
            finally:
                self.record.facts["log"] = self._log

    # -- steps --

    def _start_ecosystem(self) -> None:
        """Tokens, certificates, pools: `Ecosystem` makes them and reports each as a step."""
        steps = [
            ("tokens", "A token for each company with keys", self._check_tokens),
            ("pki", "Certificates, every key in its token", self._check_pki),
            ("backend", "The pools are up", self._check_backend),
        ]
        current = ExitStack()

        def begin() -> None:
            name, title, _ = steps[0]
            self._step = current.enter_context(self.record.step(name, title))

        def end(name: str, detail: str, milliseconds: float) -> None:
            _, _, check = steps.pop(0)
            check(self.record.steps[-1])
            self._step = None
            current.close()
            if steps:
                begin()

        with current:
            begin()
            self.world = Ecosystem(self.folder / "ecosystem", on_step=end)
            self._stack.enter_context(self.world)

    def _check_tokens(self, step: Step) -> None:
        count = len(list((self.folder / "ecosystem/tokens/tokens").iterdir()))
        step.result = f"{count} tokens, each with its own PIN"
        step.check(step.result, count == len(LABELS), count)

    def _check_pki(self, step: Step) -> None:
        world = self.world
        keys = [key for token_keys in world.keys.values() for key in token_keys]
        step.result = f"{len(keys)} private keys, made in their tokens, none can leave"
        step.check(step.result, all(key.custody() == "L3" for key in keys))
        path.validate(
            world.cps.certificate, world.cps.subs, [world.v2g_root], chain.CPS, time.time()
        )
        step.check("the provisioning service has a path to the V2G root, with its role", True)

    def _check_backend(self, step: Step) -> None:
        for name, role in (
            ("maker", self.world.oem),
            ("operator A", self.world.mo),
            ("operator B", self.world.mo_v2g),
            ("charge points", self.world.cpo),
        ):
            role.client.observe = self._http(name)
        roots = set(self.world.cpo.client.roots("V2G", "MO", "OEM"))
        step.result = "the root pool gives the three roots, over HTTP"
        step.check(
            step.result, roots == {self.world.v2g_root, self.world.mo_root, self.world.oem_root}
        )

    def _make_car(self) -> None:
        if self._board:
            self._flash_board(*self._board)
        with self._new_step("factory", "A car is born: key, certificate, trust anchors") as step:
            if not self._board:
                self._start_car()
            self.maker: Maker = self.car.maker(self.world.telematics_key)
            point = self.maker.connect()
            step.check("car and maker have authenticated, each by a key in its token", True)
            leaf = self._provision(step)
            step.check(
                "the certificate is for the key in the car's token", path.read(leaf).point == point
            )
            status = self.maker.status()
            step.result = f"the car is {self.pcid}"
            step.check(step.result, status.pcid == self.pcid and status.certified)
            vehicle = self.world.mo.vehicle(self.pcid)
            step.check(
                "an operator finds it in the pool and checks its path", vehicle.certificate == leaf
            )

    def _start_car(self) -> None:
        token = self._car_token()
        self.car = Car(
            self.runtime,
            self.link,
            self.folder / "car",
            maker=self.world.telematics_key.point,
            token=token,
            observe=self._observe_car,
        )
        self._stack.enter_context(self.car)
        if self.keep:
            self._store_pins_and_roots(token.pin)

    def _flash_board(self, port: str, link: str | None) -> None:
        with self._new_step("flash", "The module goes onto the board") as step:
            maker = self.world.telematics_key.point
            steps: list[str] = []
            board = DemoBoard(
                port, link, self.folder / "board", maker, steps.append, self._observe_car
            )
            self.car = self._stack.enter_context(board)
            for text in steps:
                step.check(text, True)
            status = board.status()
            self.record.facts["runtime"] = f"board {status['runtime']}"
            step.result = f"{board.board.machine} answers, with {status['runtime']}"
            step.check(step.result, status["contracts"] == [], status["contracts"])
            if self.keep:
                self._store_pins_and_roots(board.pin)

    def _provision(self, step: Step) -> bytes:
        """Enrol and register the car. Its provisioning certificate."""
        self.maker.set_time(int(time.time()))
        oem = self.world.oem
        csr = self.maker.csr(self.pcid, MAKER, COUNTRY)
        step.move("car", "maker", "signing request", len(csr), self._line)
        leaf, subs = oem.enrol(csr)
        anchors = oem.anchors(REGION, leaf, subs)
        self.maker.install_trust(REGION, anchors)
        size = sum(len(der) for _, der in anchors)
        step.move("maker", "car", f"{len(anchors)} trust anchors, {REGION}", size, self._line)
        self.maker.install_certificate([leaf, *subs])
        size = len(leaf) + sum(map(len, subs))
        step.move("maker", "car", "provisioning chain", size, self._line)
        oem.register(leaf, subs, [self.world.v2g_root])
        return leaf

    def _first_contract(self) -> str:
        with self._new_step("contract", "Operator A seals a contract to the car") as step:
            emaid = self.world.mo.contract(self.pcid)
            self.paths[emaid] = "at the station"
            contracts = {
                contract["emaid"]: contract for contract in self.world.oem.contracts(self.pcid)
            }
            step.result = f"{emaid} is in the contract pool, for this car"
            step.check(step.result, emaid in contracts)
            step.check("a station would install it", contracts[emaid]["defaultContract"])
            return emaid

    def _install_at_the_station(self, emaid: str) -> None:
        self.station = Station(
            Offer(evseid=EVSE),
            self.world.cpo.roots(),
            self._fetch_contract,
            StationSettings(tls=self.world.station_tls()),
            observe=self._observe_station,
        )
        self.address = self._stack.enter_context(self.station.in_thread())
        with self._new_step("station", "Plugged in: installed live, and authorized") as step:
            events = self._charge(want_contract=True)
            self._check_installed(step, events, emaid)
            self._check_authorized(step, events, emaid)
            checks = self._station_checks
            step.check(f"it was TLS 1.2, with {''.join(checks[1:])}", len(checks) == 2, checks)
            step.result = f"{emaid} installed in the session, then authorized and billed"

    def _install_over_the_air(self) -> str:
        """The maker learns of the contract only from the contract pool's event."""
        with (
            self._new_step("air", "Operator B's contract comes over the air") as step,
            Backend(self.world.oem, self.folder / "maker.sqlite") as backend,
        ):
            backend.follow()
            seen = len(self.car.bench.events)
            backend.arrives(
                self.pcid, lambda point: self.car.maker(self.world.telematics_key, point)
            )
            emaid = self.world.mo_v2g.new_emaid()
            self.paths[emaid] = "over the air"
            self.world.mo_v2g.contract(self.pcid, emaid)
            self.car.bench.wait_event("installed", seen, _INSTALLATION)
            backend.leaves(self.pcid)
            messages = [
                work.message
                for work in backend.queue.history(self.pcid)
                if (work.action, work.emaid, work.state) == (INSTALL, emaid, DONE)
            ]
            step.check(
                "after the contract pool's event the maker's backend checked and forwarded it",
                messages != [],
            )
            message = messages[0]
            self._capture("CertificateInstallationRes-over-the-air", message)
            step.move("maker", "car", "CertificateInstallationRes", len(message), self._line)
            events = [(event[0], event[1]) for event in self.car.bench.events[seen:]]
            self._check_installed(step, events, emaid)
            self.maker.connect()
            custody = {held.emaid: held.custody for held in self.maker.contracts()}[emaid]
            step.result = f"{emaid} is installed, its key in the token, custody {custody}"
            step.check(step.result, custody != "")
            return emaid

    def _charge_with_each(self, *emaids: str) -> None:
        for number, emaid in enumerate(emaids, 1):
            title = f"Charging with the contract that came {self.paths[emaid]}"
            with self._new_step(f"charge {number}", title) as step:
                self.maker.choose_contract(emaid)
                step.move("maker", "car", f"choose {emaid}", len(emaid), self._line)
                billed = len(self.station.records)
                events = self._charge()
                self._check_authorized(step, events, emaid)
                step.check("one session billed", len(self.station.records) == billed + 1)

    def _summarise(self) -> None:
        """The facts for the final tables."""
        contracts = self.maker.contracts()
        self.record.facts.update(
            vault=self.car.vault,
            contracts=[
                {
                    "emaid": contract.emaid,
                    "operator": contract.operator,
                    "not_before": contract.not_before,
                    "not_after": contract.not_after,
                    "active": contract.active,
                    "custody": contract.custody,
                    "path": self.paths[contract.emaid],
                }
                for contract in contracts
            ],
            keys=[*self._car_keys(contracts), *self._company_keys()],
            wires=self._wires(),
        )

    def _car_keys(self, contracts: Sequence[ContractStatus]) -> list[dict[str, str]]:
        custody = {"provisioning": self.maker.status().custody}
        custody.update({f"contract {held.emaid}": held.custody for held in contracts})
        return [
            {"owner": "car", "key": key, "where": self._token_of_car(), "custody": level}
            for key, level in custody.items()
        ]

    def _token_of_car(self) -> str:
        return "token of the bench, over the link" if self._board else "the car's token"

    def _company_keys(self) -> list[dict[str, str]]:
        return [
            {
                "owner": label,
                "key": ", ".join(key.label for key in keys),
                "where": f"token {label}",
                "custody": ", ".join({key.custody() for key in keys}),
            }
            for label, keys in self.world.keys.items()
        ]

    def _wires(self) -> list[dict[str, Any]]:
        traffic = self.car.traffic()
        counts = {
            f"car, {self.link} link (framing included)": traffic["wire"],
            "  of it: charging session": traffic["session"],
            "  of it: telematics": traffic["telematics"],
            "station, V2GTP over TLS": self._station_bytes,
            "pools, OPCP over HTTP (bodies)": self._http_bytes,
        }
        return [
            {"wire": wire, "sent": count["out"], "received": count["in"]}
            for wire, count in counts.items()
        ]

    # -- parts of several steps --

    def _car_token(self) -> TokenConfiguration:
        """The one that was chosen, to be emptied at the end, or a new one."""
        chosen = self._selection.vault
        if chosen is None:
            pin = secrets.token_hex(8)
            location = providers.SOFTHSM.make(self.folder / "car-token", "car", pin)
            return TokenConfiguration(location, pin, self._selection.minimum_custody)
        self._stack.enter_context(exclusive_lease(chosen))
        return chosen

    @property
    def _line(self) -> str:
        return f"telematics, {self.link}"

    @contextmanager
    def _new_step(self, name: str, title: str) -> Iterator[Step]:
        """A step of the record, to which the observers of the wires add their messages."""
        with self.record.step(name, title) as step:
            self._step = step
            try:
                yield step
            finally:
                self._step = None

    def _charge(self, want_contract: bool = False) -> list[tuple[str, str]]:
        """A session over TLS, which this computer does for the module."""
        self._station_checks.clear()
        return self.car.charge(
            *self.address, want_contract=want_contract, roots=[self.world.v2g_root]
        )

    def _check_installed(self, step: Step, events: Sequence[tuple[str, str]], emaid: str) -> None:
        passed = [text for name, text in events if name == "check"]
        step.check("the car checked " + ", ".join(INSTALLED[:-2]), passed == INSTALLED, passed)
        step.check(
            "then the token opened the key, it matched, and the contract was committed", True
        )
        step.check(f"installed {emaid}", ("installed", emaid) in events, events)

    def _check_authorized(self, step: Step, events: Sequence[tuple[str, str]], emaid: str) -> None:
        step.check(f"authorized {emaid}", ("authorized", emaid) in events, events)
        record: Authorized = self.station.records[-1]
        step.check(
            f"the station verified chain, challenge and signature, and bills {record.emaid}",
            record.emaid == emaid,
        )
        step.result = f"the station authorized and billed {emaid}"

    def _fetch_contract(self, request: bytes) -> bytes:
        self._capture("CertificateInstallationReq", request)
        response = self.world.cpo.fetch_contract(request)
        self._capture("CertificateInstallationRes", response)
        return response

    def _store_pins_and_roots(self, car_pin: str) -> None:
        """Store the PINs of the tokens, and the roots of the captured messages."""
        pins = self.folder / "pins.json"
        pins.touch(mode=0o600)
        # The PIN of the user's own token is not stored.
        car_pins = {} if self._selection.vault else {"car": car_pin}
        pins.write_text(json.dumps({**car_pins, **self.world.pins}, indent=1), encoding="utf-8")
        roots = (self.world.v2g_root, self.world.mo_root, self.world.oem_root)
        pems = [ssl.DER_cert_to_PEM_cert(root) for root in roots]
        (self.folder / "roots.pem").write_text("".join(pems), encoding="utf-8")

    def _capture(self, name: str, message: bytes) -> None:
        """Store an EXI message for `plugvault inspect` and `plugvault exi`."""
        self._captures += 1
        folder = self.folder / "captures"
        folder.mkdir(exist_ok=True)
        (folder / f"{self._captures}-{name}.exi").write_bytes(message)

    def _observe_car(self, channel: str, text: str) -> None:
        if channel == "log":
            self._log.append(text)
        if channel == "station":
            self._station_checks.append(text)

    def _observe_station(self, direction: str, name: str, size: int, milliseconds: float) -> None:
        ends = ("car", "station") if direction == "in" else ("station", "car")
        self._station_bytes["in" if direction == "out" else "out"] += size
        if self._step is not None:
            self._step.move(*ends, name, size, "V2GTP")

    def _http(self, company: str) -> Callable[[str, int, int], None]:
        def observe(call: str, sent: int, received: int) -> None:
            with self._counting:  # the maker's backend calls from its own thread
                self._http_bytes["out"] += sent
                self._http_bytes["in"] += received
            step = self._step
            if step is not None:
                for emaid in list(self.paths):
                    call = call.replace(emaid, "{emaid}")
                call = call.replace(self.pcid, "{pcid}")
                step.move(company, "pools", call, sent, f"HTTP, {received:,} B back")

        return observe
