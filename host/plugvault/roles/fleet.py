"""The maker's vehicles that are reachable now, and the work that waits for them.

Each reachable vehicle has a thread that does its waiting work over the telematics channel, in
order and one task at a time. Unfinished work waits for the vehicle's next connection. A contract
is checked again right before it is forwarded, because it may have waited for long.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from evcc import exi
from evcc.errors import EvccError
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.roles.client import OpcpError
from plugvault.roles.oem import ForwardError
from plugvault.roles.work_queue import (
    CHOOSE,
    DONE,
    INSTALL,
    REJECTED,
    REMOVE,
    WAITING,
    Work,
    WorkQueue,
)
from plugvault.telematics import ContractStatus, Maker, TelematicsError

log = logging.getLogger("plugvault.roles.fleet")

RETRY = 30.0  # seconds until waiting work is tried again
_END = 25.0  # seconds a vehicle may take to finish its current task

Connect = Callable[[bytes], Maker]
Check = Callable[[bytes, str], None]
Greet = Callable[[str, Maker], None]


@dataclass
class _Car:
    vehicle: str
    link: Maker
    wake: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    busy: threading.Lock = field(default_factory=threading.Lock)  # one request at a time
    connected: bool = False
    thread: threading.Thread | None = None


class Fleet:
    """`check(message, emaid)`: raises ForwardError for a contract that must not reach a vehicle,
    OpcpError when it cannot be checked now. `greet(pcid, link)`: called first on each connection,
    raises TelematicsError. `close()` when done."""

    def __init__(
        self, queue: WorkQueue, check: Check, greet: Greet = lambda pcid, link: None
    ) -> None:
        self._queue = queue
        self._check = check
        self._greet = greet
        self._cars: dict[str, _Car] = {}
        self._lock = threading.Lock()

    def arrives(self, pcid: str, point: bytes, connect: Connect) -> None:
        """A vehicle is reachable: authenticate to it, and do its waiting work.

        `point`: of its provisioning key, 65 bytes; `connect(point)`: the maker's end of a channel
        to the vehicle with this key, not yet connected.
        """
        self.leaves(pcid)
        car = _Car(pcid.upper(), connect(point))
        car.thread = threading.Thread(
            target=self._serve, args=(car,), name=f"vehicle {car.vehicle}", daemon=True
        )
        with self._lock:
            self._cars[car.vehicle] = car
        car.thread.start()

    def leaves(self, pcid: str) -> None:
        """A vehicle is no longer reachable, or will not be: wait for its current task."""
        with self._lock:
            car = self._cars.pop(pcid.upper(), None)
        if car is not None and car.thread is not None:
            car.gone.set()
            car.wake.set()
            car.thread.join(_END)

    def wake(self, vehicle: str) -> None:
        """Start new work for a vehicle, if it is reachable."""
        with self._lock:
            car = self._cars.get(vehicle)
        if car is not None:
            car.wake.set()

    def held(self, pcid: str) -> list[ContractStatus] | None:
        """The contracts in a vehicle; None when it is not reachable."""
        with self._lock:
            car = self._cars.get(pcid.upper())
        if car is None:
            return None
        with car.busy:
            try:
                return car.link.contracts() if car.connected else None
            except EvccError as error:
                log.info("%s: %s", car.vehicle, error)
                return None

    def ask(self, pcid: str, request: Callable[[Maker], None]) -> bool:
        """Send a request to a vehicle; False when it is not reachable. Raises TelematicsError."""
        with self._lock:
            car = self._cars.get(pcid.upper())
        if car is None:
            return False
        with car.busy:
            if car.connected:
                request(car.link)
            return car.connected

    def close(self) -> None:
        for vehicle in list(self._cars):
            self.leaves(vehicle)

    def _serve(self, car: _Car) -> None:
        try:
            with car.busy:
                car.link.connect()
                self._greet(car.vehicle, car.link)
                car.connected = True
            while not car.gone.is_set():
                car.wake.clear()
                for work in self._queue.waiting(car.vehicle):
                    if car.gone.is_set():
                        return
                    with car.busy:
                        state, reason = self._carry_out(car.link, work)
                    self._queue.finish(work, state, reason)
                    log.info("%s %s: %s %s", work.action, work.emaid, state, reason)
                    if work.action == REMOVE:
                        car.wake.set()  # there may be room now for earlier work
                car.wake.wait(RETRY)
        except EvccError as error:  # no longer reachable, or another vehicle: the work waits
            log.info("%s: %s", car.vehicle, error)
        finally:
            car.connected = False
            with self._lock:
                if self._cars.get(car.vehicle) is car:
                    del self._cars[car.vehicle]

    def _carry_out(self, link: Maker, work: Work) -> tuple[str, str]:
        """The work's new state and its reason. Raises EvccError when the vehicle is gone."""
        try:
            return _ACTIONS[work.action](self, link, work)
        except ForwardError as error:
            return REJECTED, str(error)
        except OpcpError as error:
            return WAITING, str(error)
        except TelematicsError as error:
            if error.reason == "refused":
                return self._refused(work, error.detail)
            if error.reason == "rejected":  # the vehicle does not send its reason
                return REJECTED, "the vehicle does not accept it"
            raise

    def _install(self, link: Maker, work: Work) -> tuple[str, str]:
        if _is_in(work, link.contracts()):  # from a station, or before the backend was stopped
            return DONE, "was in the vehicle"
        self._check(work.message, work.emaid)
        session_id = os.urandom(8)
        link.offer_contract(work.emaid, session_id)
        link.install_contract(response.with_session_id(work.message, session_id))
        return DONE, ""

    def _remove(self, link: Maker, work: Work) -> tuple[str, str]:
        link.remove_contract(work.emaid)
        return DONE, ""

    def _choose(self, link: Maker, work: Work) -> tuple[str, str]:
        link.choose_contract(work.emaid)
        return DONE, ""

    def _refused(self, work: Work, reason: str) -> tuple[str, str]:
        """The work's new state after a refusal with this reason."""
        if reason == "not-found" and work.action == REMOVE:
            return DONE, "was not in the vehicle"
        if reason in _PASSING:
            return WAITING, _PASSING[reason]
        if reason == "not-found" and self._is_coming(work):
            return WAITING, "comes with the contract"
        return REJECTED, f"the vehicle refuses it ({reason})"

    def _is_coming(self, work: Work) -> bool:
        return any(
            waiting.action == INSTALL and waiting.emaid == work.emaid
            for waiting in self._queue.waiting(work.vehicle)
        )


# By the vehicle's reason: what must change before the work can be done.
_PASSING = {
    "locked": "the vehicle is locked, until its maker lifts that",
    "full": "no room in the vehicle: its customer must remove a contract",
    "resources": "the vehicle's memory or flash ran out: see its log",
    "clock": "the vehicle does not know the time, which it gets at each connection",
}
_ACTIONS = {INSTALL: Fleet._install, REMOVE: Fleet._remove, CHOOSE: Fleet._choose}


def _is_in(work: Work, held: list[ContractStatus]) -> bool:
    """Whether the vehicle has this very bundle: the EMAID and the dates identify it."""
    contract = response.read(exi.decode(work.message)).contract
    leaf = path.read(contract.certificate)
    bundle = (work.emaid, leaf.not_before, leaf.not_after)
    return bundle in [
        (contract.emaid, contract.not_before, contract.not_after) for contract in held
    ]
