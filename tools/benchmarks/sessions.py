"""Sessions with an installation, over the whole chain: the slowest ones count.

The module on MicroPython, its token through `ffi`; TLS by a key in the CPO's token; the station;
the operator's call of CCP over HTTP; the pools with SQLite. All on the loopback, without SDP. Each
session installs a new contract, which is made before it and not timed. The installation is the
time from the station's receipt of CertificateInstallationReq to that of PaymentDetailsReq: the
pool's answer, and its check, opening and storing by the module.
"""

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from plugvault import runtimes
from plugvault.car import Car
from plugvault.ecosystem import Ecosystem
from plugvault.station import Offer, Station, StationSettings
from plugvault.tls import Identity, StationTls
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from plugvault.tokens.softhsm import TokenStore

CARS, SESSIONS_OF_CAR, WARM = 10, 100, 10  # a car remembers 128 envelopes, and accepts no more
MOST_P99 = 100.0  # milliseconds of an installation
PCID = "PVTBENCH000000001"


class Chain:
    """A car of this ecosystem at a station of it."""

    def __init__(self, world: Ecosystem, station: Station, car: Car) -> None:
        self._world, self._station, self._car = world, station, car
        self.times: dict[str, float] = {}  # since the message before, of the last session

    def observe(self, direction: str, name: str, size: int, milliseconds: float) -> None:
        self.times[name] = milliseconds

    def session(self) -> tuple[float, float]:
        """One session: (duration of the installation, duration from the plug to the
        authorization), in milliseconds."""
        self._world.mo.contract(PCID, self._emaid)
        self.times.clear()
        started = time.perf_counter()
        events = dict(self._car.find_and_charge(want_contract=True))
        whole = (time.perf_counter() - started) * 1000
        if events.get("authorized") != self._emaid or "installed" not in events:
            raise RuntimeError(f"{events} {self._car.bench.log[-3:]}")
        parts = ("CertificateInstallationRes", "PaymentDetailsReq")
        return sum(self.times[name] for name in parts), whole

    def provision(self) -> None:
        """Give the car its certificate and trust anchors, and its contracts an EMAID."""
        maker = self._car.maker(self._world.telematics_key)
        maker.connect()
        leaf, subs = self._world.oem.enrol(maker.csr(PCID, "Example Cars", "DE"))
        maker.install_trust("EU", self._world.oem.anchors("EU", leaf, subs))
        maker.install_certificate([leaf, *subs])
        self._world.oem.register(leaf, subs, [self._world.v2g_root])
        self._emaid = self._world.mo.new_emaid()


@contextmanager
def chain(folder: Path) -> Iterator[Chain]:
    """The provisioned chain for a block, its files in `folder`."""
    runtime = runtimes.get("debian")
    if runtime is None:
        raise RuntimeError("no MicroPython with ffi here; `make` says why")
    with ExitStack() as stack:
        world = stack.enter_context(Ecosystem(folder / "world"))
        leaf = world.station
        identity = Identity(leaf.certificate, leaf.subs, world.v2g_root, leaf.key.sign_digest)
        chains: list[Chain] = []

        def observe(*message: Any) -> None:
            chains[0].observe(*message)

        station = Station(
            Offer(),
            world.cpo.roots(),
            world.cpo.fetch_contract,
            StationSettings(host="::1", tls=StationTls([identity])),
            observe=observe,
        )
        _, port = stack.enter_context(station.in_thread())
        store, pin = TokenStore(folder / "hsm"), secrets.token_hex(8)
        store.init_token("car", pin, secrets.token_hex(8))
        location = TokenLocation(store.module, "car", store.conf)
        car = Car(
            runtime,
            "tcp",
            folder / "car",
            maker=world.telematics_key.point,
            token=TokenConfiguration(location, pin),
            network={"interface": "lo", "address": "::1", "port": port},
        )
        whole = Chain(world, station, stack.enter_context(car))
        chains.append(whole)
        whole.provision()
        yield whole


@contextmanager
def in_memory() -> Iterator[Path]:
    """A temporary folder in memory, where the machine has one: on a disk, all sides would mostly
    wait for the disk."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="pv-", dir=memory) as folder:
        yield Path(folder)


def share(values: list[float], part: float) -> float:
    """The value below which the share `part` of the values is: a percentile."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def sessions_of_a_car() -> list[tuple[float, float]]:
    """The results of `Chain.session` of a new car, after `WARM` sessions."""
    with in_memory() as folder, chain(folder) as whole:
        for _ in range(WARM):
            whole.session()
        return [whole.session() for _ in range(SESSIONS_OF_CAR)]


def bench() -> list[dict[str, Any]]:
    pairs = [pair for _ in range(CARS) for pair in sessions_of_a_car()]
    installations, sessions = ([pair[i] for pair in pairs] for i in (0, 1))
    name = f"installation in {len(pairs):,} sessions, through module, station, operator and CCP"
    return [
        {
            "name": f"{name}: p99",
            "value": share(installations, 0.99),
            "unit": "ms",
            "budget": MOST_P99,
        },
        {"name": "  p50", "value": share(installations, 0.5), "unit": "ms"},
        {"name": "  p99.9", "value": share(installations, 0.999), "unit": "ms"},
        {
            "name": "  from the plug to the authorization, p50",
            "value": share(sessions, 0.5),
            "unit": "ms",
        },
        {"name": "    p99", "value": share(sessions, 0.99), "unit": "ms"},
    ]
