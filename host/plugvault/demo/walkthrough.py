"""The story itself: a car is born, gets two contracts in two ways, and charges with each.

One function a chapter, in the order they happen. Everything is the real thing: tokens, HTTP, a
module in a process of its own, bytes on a serial line. What a chapter claims it has checked.
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

from evcc import chain
from evcc.iso15118_2 import installation
from plugvault import runtimes
from plugvault.car import Car
from plugvault.ecosystem import EVSE, LABELS, WMI, Ecosystem
from plugvault.pki import path
from plugvault.roles.backend import Backend
from plugvault.roles.work_queue import DONE
from plugvault.runtimes import Runtime
from plugvault.station import Authorized, Offer, Station
from plugvault.telematics import Maker
from plugvault.tokens import providers
from plugvault.tokens.lease import exclusive_lease
from plugvault.tokens.selection import NO_SELECTION, Selection, TokenConfiguration

from .record import DemoError, DemoRecord, Step

REGION = "EU"
COUNTRY, MAKER = "DE", "Example Cars"
INSTALLED = [*(name for name, _ in installation.CHECKS), "key-opened", "committed"]


def choose_runtime(wanted: str | None) -> Runtime:
    """The interpreter for the car's module: a MicroPython where there is one, the best first.

    wanted: "cpython", "micropython", or None for whatever serves best.
    """
    if wanted != "cpython":
        for name in ("debian", "wheel"):
            found = runtimes.get(name)
            if found is not None:
                return found
        if wanted == "micropython":
            raise DemoError("no MicroPython here: `make` fetches one, `plugvault doctor` says why")
    return runtimes.cpython()


class Walkthrough:
    """One run: who is in it, and what has happened so far."""

    def __init__(
        self,
        record: DemoRecord,
        runtime: Runtime,
        link: str,
        folder: Path,
        keep: bool = False,
        selection: Selection = NO_SELECTION,
    ) -> None:
        """folder: for everything the run makes. keep: leave in it what is needed to look at it
        afterwards: the tokens' PINs (`pins.json`, for its owner only), and the roots. selection:
        of a token of somebody's own for the car; it holds no car's keys and is given back so."""
        self.record = record
        self.keep = keep
        self._selection = selection
        self.runtime = runtime
        self.link = link
        self.folder = folder
        self.pcid = WMI + "P" + "".join(secrets.choice("0123456789") for _ in range(13))
        self.paths: dict[str, str] = {}  # EMAID: how it came
        self._captures = 0
        self._station_bytes = {"in": 0, "out": 0}
        self._http_bytes = {"in": 0, "out": 0}
        self._counting = threading.Lock()
        self._step: Step | None = None
        self._stack = ExitStack()
        self._log: list[str] = []

    def tell(self) -> None:
        """All of it. Raises whatever went wrong, DemoError for a claim that does not hold."""
        self.record.facts.update(
            runtime=f"{self.runtime.name} {self.runtime.version}", link=self.link, pcid=self.pcid
        )
        with self._stack:
            try:
                self._found_the_world()
                self._car_is_born()
                first = self._first_contract()
                self._at_the_station(first)
                second = self._over_the_air()
                self._charge_with_each(second, first)
                self._sum_up()
            finally:
                self.record.facts["log"] = self._log

    # -- chapters --

    def _found_the_world(self) -> None:
        """Tokens, certificates, pools: `Ecosystem` makes them and says when each is done."""
        chapters = [
            ("tokens", "A token for each who has keys", self._check_tokens),
            ("pki", "Certificates, every key in its token", self._check_pki),
            ("backend", "The pools are up", self._check_backend),
        ]
        current = ExitStack()

        def begin() -> None:
            name, title, _ = chapters[0]
            self._step = current.enter_context(self.record.step(name, title))

        def done(name: str, detail: str, milliseconds: float) -> None:
            _, _, check = chapters.pop(0)
            check(self.record.steps[-1])
            self._step = None
            current.close()
            if chapters:
                begin()

        with current:
            begin()
            self.world = Ecosystem(self.folder / "ecosystem", on_step=done)
            self._stack.enter_context(self.world)

    def _check_tokens(self, step: Step) -> None:
        made = list((self.folder / "ecosystem/tokens/tokens").iterdir())
        step.check(
            f"{len(made)} tokens, each with a PIN of its own", len(made) == len(LABELS), len(made)
        )

    def _check_pki(self, step: Step) -> None:
        world = self.world
        keys = [key for owned in world.keys.values() for key in owned]
        sealed = all(key.custody() == "L3" for key in keys)
        step.check(f"{len(keys)} private keys, made in their tokens, none can leave", sealed)
        path.validate(
            world.cps.certificate, world.cps.subs, [world.v2g_root], chain.CPS, time.time()
        )
        step.check("the provisioning service leads to the V2G root, with its role", True)

    def _check_backend(self, step: Step) -> None:
        for name, role in (
            ("maker", self.world.oem),
            ("operator A", self.world.mo),
            ("operator B", self.world.mo_v2g),
            ("charge points", self.world.cpo),
        ):
            role.client.observe = self._http(name)
        roots = self.world.cpo.client.roots("V2G", "MO", "OEM")
        wanted = {self.world.v2g_root, self.world.mo_root, self.world.oem_root}
        step.check("the root pool gives the three roots, over HTTP", set(roots) == wanted)

    def _car_is_born(self) -> None:
        with self._chapter("factory", "A car is born: key, certificate, trust anchors") as step:
            token = self._car_token()
            self.car = Car(
                self.runtime,
                self.link,
                self.folder / "car",
                maker=self.world.telematics_key.point,
                token=token,
                observe=self._heard,
            )
            self._stack.enter_context(self.car)
            if self.keep:
                self._keep_keys(token.pin)
            self.maker: Maker = self.car.maker(self.world.telematics_key)
            point = self.maker.connect()
            step.check("car and maker have proved themselves, each with a key in its token", True)
            csr = self.maker.csr(self.pcid, MAKER, COUNTRY)
            step.move("car", "maker", "signing request", len(csr), self._line)
            leaf, subs = self.world.oem.enrol(csr)
            anchors = self.world.oem.anchors(REGION, leaf, subs)
            self.maker.install_trust(REGION, anchors)
            size = sum(len(der) for _, der in anchors)
            step.move("maker", "car", f"{len(anchors)} trust anchors, {REGION}", size, self._line)
            self.maker.install_certificate([leaf, *subs])
            size = len(leaf) + sum(map(len, subs))
            step.move("maker", "car", "provisioning chain", size, self._line)
            certificate = path.read(leaf)
            step.check(
                "the certificate is for the key in the car's token", certificate.point == point
            )
            self.world.oem.register(leaf, subs, [self.world.v2g_root])
            status = self.maker.status()
            step.check(f"the car is {self.pcid}", status.pcid == self.pcid and status.certified)
            vehicle = self.world.mo.vehicle(self.pcid)
            step.check(
                "an operator finds it in the pool and checks its path", vehicle.certificate == leaf
            )

    def _first_contract(self) -> str:
        with self._chapter("contract", "Operator A seals a contract to the car") as step:
            emaid = self.world.mo.contract(self.pcid)
            self.paths[emaid] = "at the station"
            listed = {c["emaid"]: c for c in self.world.oem.contracts(self.pcid)}
            step.check(f"{emaid} is in the contract pool, for this car", emaid in listed)
            step.check("it is the one a station would install", listed[emaid]["defaultContract"])
            return emaid

    def _at_the_station(self, emaid: str) -> None:
        self.station = Station(
            Offer(evseid=EVSE),
            self.world.cpo.roots(),
            self._fetch_contract,
            observe=self._at_station,
        )
        self.address = self._stack.enter_context(self.station.in_thread())
        with self._chapter("station", "Plugged in: installed live, and authorized") as step:
            events = self.car.charge(*self.address, want_contract=True)
            self._check_installed(step, events, emaid)
            self._check_authorized(step, events, emaid)

    def _over_the_air(self) -> str:
        """Nobody tells the maker anything but the contract pool's event."""
        with (
            self._chapter("air", "Operator B's contract comes over the air") as step,
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
            self.car.bench.wait_event("installed", seen)
            backend.leaves(self.pcid)
            work = backend.queue.history(self.pcid)[-1]
            step.check(
                "told by the contract pool, the maker's backend has checked and forwarded it",
                (work.emaid, work.state) == (emaid, DONE),
            )
            self._capture("CertificateInstallationRes-over-the-air", work.message)
            step.move("maker", "car", "CertificateInstallationRes", len(work.message), self._line)
            told = [(event[0], event[1]) for event in self.car.bench.events[seen:]]
            self._check_installed(step, told, emaid)
            self.maker.connect()
            custody = {held.emaid: held.custody for held in self.maker.contracts()}[emaid]
            step.check(f"its key is in the token, custody {custody}", custody != "")
            return emaid

    def _charge_with_each(self, *emaids: str) -> None:
        for number, emaid in enumerate(emaids, 1):
            title = f"Charging with the one that came {self.paths[emaid]}"
            with self._chapter(f"charge {number}", title) as step:
                self.maker.choose_contract(emaid)
                step.move("maker", "car", f"choose {emaid}", len(emaid), self._line)
                billed = len(self.station.records)
                self._check_authorized(step, self.car.charge(*self.address), emaid)
                step.check("one session billed", len(self.station.records) == billed + 1)

    def _sum_up(self) -> None:
        held = self.maker.contracts()
        custody = self.maker.status().custody
        traffic = self.car.traffic()
        car = "the car's token"
        keys = [{"owner": "car", "key": "provisioning", "where": car, "custody": custody}]
        keys += [
            {"owner": "car", "key": f"contract {c.emaid}", "where": car, "custody": c.custody}
            for c in held
        ]
        keys += [
            {
                "owner": owner,
                "key": ", ".join(key.label for key in owned),
                "where": f"token {owner}",
                "custody": ", ".join({key.custody() for key in owned}),
            }
            for owner, owned in self.world.keys.items()
        ]
        wires = [
            (f"car, {self.link} link (framing included)", traffic["wire"]),
            ("  of it: charging session", traffic["session"]),
            ("  of it: telematics", traffic["telematics"]),
            ("station, V2GTP over TCP", self._station_bytes),
            ("pools, OPCP over HTTP (bodies)", self._http_bytes),
        ]
        self.record.facts.update(
            vault=self.car.vault,
            contracts=[
                {
                    "emaid": c.emaid,
                    "operator": c.operator,
                    "not_before": c.not_before,
                    "not_after": c.not_after,
                    "active": c.active,
                    "custody": c.custody,
                    "path": self.paths[c.emaid],
                }
                for c in held
            ],
            keys=keys,
            wires=[
                {"wire": name, "sent": count["out"], "received": count["in"]}
                for name, count in wires
            ],
        )

    # -- what several chapters need --

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
    def _chapter(self, name: str, title: str) -> Iterator[Step]:
        """A step of the record that the observers of the wires write to."""
        with self.record.step(name, title) as step:
            self._step = step
            try:
                yield step
            finally:
                self._step = None

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

    def _fetch_contract(self, request: bytes) -> bytes:
        self._capture("CertificateInstallationReq", request)
        response = self.world.cpo.fetch_contract(request)
        self._capture("CertificateInstallationRes", response)
        return response

    def _keep_keys(self, car_pin: str) -> None:
        """What opens the kept tokens, and what the captured messages lead to."""
        pins = self.folder / "pins.json"
        pins.touch(mode=0o600)
        made = {} if self._selection.vault else {"car": car_pin}  # nobody's own PIN
        pins.write_text(json.dumps({**made, **self.world.pins}, indent=1))
        roots = (self.world.v2g_root, self.world.mo_root, self.world.oem_root)
        pems = [ssl.DER_cert_to_PEM_cert(root) for root in roots]
        (self.folder / "roots.pem").write_text("".join(pems))

    def _capture(self, name: str, message: bytes) -> None:
        """Keep an EXI message as it went by, for `plugvault inspect` and `plugvault exi`."""
        self._captures += 1
        folder = self.folder / "captures"
        folder.mkdir(exist_ok=True)
        (folder / f"{self._captures}-{name}.exi").write_bytes(message)

    def _heard(self, channel: str, text: str) -> None:
        if channel == "log":
            self._log.append(text)

    def _at_station(self, direction: str, name: str, size: int, milliseconds: float) -> None:
        ends = ("car", "station") if direction == "in" else ("station", "car")
        self._station_bytes["in" if direction == "out" else "out"] += size
        if self._step is not None:
            self._step.move(*ends, name, size, "V2GTP")

    def _http(self, who: str) -> Callable[[str, int, int], None]:
        def observe(call: str, sent: int, received: int) -> None:
            with self._counting:  # the maker's backend calls from a thread of its own
                self._http_bytes["out"] += sent
                self._http_bytes["in"] += received
            step = self._step
            if step is not None:
                for emaid in list(self.paths):
                    call = call.replace(emaid, "{emaid}")
                call = call.replace(self.pcid, "{pcid}")
                step.move(who, "pools", call, sent, f"HTTP, {received:,} B back")

        return observe
