"""The maker's vehicles that are reachable, and the work that waits for them.

Each vehicle has a thread that does its waiting work over the telematics channel, in order and one
task at a time, and compares the vehicle with the pool: at the beginning, after each change, and
every `COMPARE` seconds. Unfinished work waits. A vehicle that does not answer is "gone"; the
thread connects again, after growing pauses, until the vehicle is "back". No error ends the thread.
A contract is checked again immediately before it is forwarded, because it may have waited for a
long time.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evcc import exi
from evcc.errors import EvccError
from evcc.vault import VaultError
from plugvault.backoff import Backoff
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.roles.client import OpcpError
from plugvault.roles.health import BACK, GONE, LOCKED, REFUSED, Health, HealthEvent
from plugvault.roles.oem import ForwardError
from plugvault.roles.state_file import StateError
from plugvault.roles.work_queue import (
    BY_VEHICLE,
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

RETRY, LONGEST_RETRY = 30.0, 300.0  # seconds until waiting work is tried again
RECONNECT, LONGEST_RECONNECT = 1.0, 60.0  # seconds before another attempt to reach a vehicle
COMPARE = 300.0  # seconds between two comparisons with the pool
_ROUNDS = 8  # of work and comparison in one turn, for a vehicle that always needs more work
_END = 25.0  # seconds a vehicle may take to finish its current task

Connect = Callable[[bytes], Maker]
Check = Callable[[bytes, str], None]
Greet = Callable[[str, Maker], Sequence[HealthEvent]]
Compare = Callable[[str, Maker], bool]


@dataclass
class _Car:
    vehicle: str
    connect: Callable[[], Maker]
    wake: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    busy: threading.Lock = field(default_factory=threading.Lock)  # one request at a time
    link: Maker | None = None  # None: it does not answer
    is_silent: bool = False  # and `health` has the event
    compare_at: float = 0.0  # of the monotonic clock
    thread: threading.Thread | None = None
    reconnects: Backoff = field(default_factory=lambda: Backoff(RECONNECT, LONGEST_RECONNECT))
    retries: Backoff = field(default_factory=lambda: Backoff(RETRY, LONGEST_RETRY))


class Fleet:
    """The threads of all reachable vehicles. `close()` when done.

    `check(message, emaid)`: raises ForwardError for a contract that must not reach a vehicle,
    OpcpError when it cannot be checked now. `greet(pcid, link)`: called first on each connection;
    returns the vehicle's lasting states, for `Health.tell_change`. `compare(pcid, link)`: puts the
    work that the vehicle needs into the queue, and returns whether there is any. Both raise
    TelematicsError, OpcpError or StateError.
    """

    def __init__(
        self,
        queue: WorkQueue,
        check: Check,
        greet: Greet = lambda pcid, link: (),
        compare: Compare = lambda pcid, link: False,
        health: Health | None = None,
    ) -> None:
        self._queue = queue
        self._check = check
        self._greet = greet
        self._compare = compare
        self._health = health or Health()
        self._cars: dict[str, _Car] = {}
        self._lock = threading.Lock()

    def arrives(self, pcid: str, point: bytes, connect: Connect) -> None:
        """Authenticate to a vehicle that is reachable now, and do its waiting work until `leaves`.

        `point`: of its provisioning key, 65 bytes; `connect(point)`: the maker's end of a channel
        to the vehicle with this key, not yet connected. It is called again for each attempt to
        reach a vehicle that does not answer.
        """
        car = _Car(pcid.upper(), lambda: connect(point))
        with self._lock:
            previous = self._cars.get(car.vehicle)
            self._cars[car.vehicle] = car
            car.thread = threading.Thread(
                target=self._serve,
                args=(car, previous),
                name=f"vehicle {car.vehicle}",
                daemon=True,
            )
            car.thread.start()

    def leaves(self, pcid: str) -> None:
        """Stop serving a vehicle, after its current task."""
        with self._lock:
            car = self._cars.pop(pcid.upper(), None)
        if car is not None:
            self._end(car)

    def _end(self, car: _Car) -> None:
        """Wait for the car's current task."""
        car.gone.set()
        car.wake.set()
        if car.thread is not None:
            car.thread.join(_END)
        self._health.ends(car.vehicle)

    def is_there(self, pcid: str) -> bool:
        """Whether a vehicle is reachable and gave the last answer that was expected."""
        car = self._car(pcid)
        return car is not None and car.link is not None

    def wake(self, vehicle: str) -> None:
        """Start new work for a vehicle and compare it with the pool. Nothing happens for one that
        is not reachable."""
        car = self._car(vehicle)
        if car is not None:
            car.compare_at = 0.0
            car.retries.reset()
            car.wake.set()

    def held(self, pcid: str) -> list[ContractStatus] | None:
        """The contracts in a vehicle; None when it is not reachable or does not answer."""
        held: list[ContractStatus] = []
        try:
            is_there = self.ask(pcid, lambda link: held.extend(link.contracts()))
        except EvccError as error:
            log.info("%s: %s", pcid, error)
            return None
        return held if is_there else None

    def ask(self, pcid: str, request: Callable[[Maker], None]) -> bool:
        """Send a request to a vehicle; False when it is not reachable. Raises TelematicsError."""
        car = self._car(pcid)
        if car is None or not self.is_there(pcid):  # does not wait for an attempt to connect
            return False
        with car.busy:
            if car.link is None:
                return False
            request(car.link)
            return True

    def close(self) -> None:
        for vehicle in list(self._cars):
            self.leaves(vehicle)

    def _car(self, pcid: str) -> _Car | None:
        with self._lock:
            return self._cars.get(pcid.upper())

    # -- the thread of a vehicle --

    def _serve(self, car: _Car, previous: _Car | None) -> None:
        if previous is not None:  # the vehicle has arrived again: one thread at a time calls it
            self._end(previous)
        while not car.gone.is_set():
            car.wake.clear()
            try:
                self._turn(car, car.link or self._connect(car))
            except Exception as error:  # noqa: BLE001 - the vehicle must not be forgotten
                pause = self._failed(car, error)
            else:
                self._health.works(car.vehicle)
                car.reconnects.reset()
                due = max(0.0, car.compare_at - time.monotonic())
                pause = min(due, car.retries.pause())
            car.wake.wait(pause)
        car.link = None

    def _connect(self, car: _Car) -> Maker:
        with car.busy:
            link = car.connect()
            link.connect()
            states = self._greet(car.vehicle, link)
            car.link = link
        car.compare_at = 0.0
        if car.is_silent:
            car.is_silent = False
            self._health.tell(BACK, car.vehicle)
        for state in states:
            self._health.tell_change(*state)
        return link

    def _failed(self, car: _Car, error: Exception) -> float:
        """Report an error. Returns the seconds until the next turn."""
        is_answer = isinstance(error, TelematicsError) and error.reason in _ANSWERS
        is_told = is_answer or isinstance(error, _OWN)
        if not is_told:
            car.link = None
        if is_told or not isinstance(error, EvccError):  # also an error of the transport, or a bug
            self._health.fails(car.vehicle, error)
        elif not car.is_silent:  # no longer reachable, or another vehicle
            car.is_silent = True
            self._health.tell(GONE, car.vehicle, str(error))
        return car.reconnects.pause()

    def _turn(self, car: _Car, link: Maker) -> None:
        """Do the waiting work and compare, until there is no work that can be done now."""
        for number in range(_ROUNDS):
            states = self._work(car, link)
            if DONE in states:
                car.compare_at = 0.0
            elif REJECTED in states and number:  # the next comparison would have the same result
                break
            if car.gone.is_set() or time.monotonic() < car.compare_at:
                return
            with car.busy:
                has_work = self._compare(car.vehicle, link)
            if not has_work:
                car.compare_at = time.monotonic() + COMPARE
                return
        car.compare_at = time.monotonic() + car.retries.pause()

    def _work(self, car: _Car, link: Maker) -> set[str]:
        """Try all waiting work. Returns the states after it."""
        states: set[str] = set()
        for work in self._queue.waiting(car.vehicle):
            if car.gone.is_set():
                break
            with car.busy:
                state, reason = self._carry_out(link, work)
            self._queue.finish(work, state, reason)
            states.add(state)
            log.info("%s %s: %s %s", work.action, work.emaid, state, reason)
            if state == REJECTED:
                self._health.tell(REFUSED, car.vehicle, f"{work.emaid}: {reason}")
            if state == DONE:
                car.retries.reset()
                if work.action == REMOVE:
                    car.wake.set()  # there may be room now for earlier work
        return states

    def _carry_out(self, link: Maker, work: Work) -> tuple[str, str]:
        """Do one task. Returns the work's new state and its reason. Raises EvccError when the
        vehicle does not answer."""
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
                return REJECTED, f"{BY_VEHICLE}does not accept it"
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
        # Only an installation needs room for a contract: otherwise the disk is full.
        if reason == "full" and work.action != INSTALL:
            reason = "resources"
        if reason == "not-found" and work.action == REMOVE:
            return DONE, "was not in the vehicle"
        if reason == "locked":
            self._health.tell_change(LOCKED, work.vehicle, _PASSING[reason])
        if reason in _PASSING:
            return WAITING, _PASSING[reason]
        if reason == "not-found" and self._is_coming(work):
            return WAITING, "comes with the contract"
        return REJECTED, f"{BY_VEHICLE}refuses it ({reason})"

    def _is_coming(self, work: Work) -> bool:
        return any(
            waiting.action == INSTALL and waiting.emaid == work.emaid
            for waiting in self._queue.waiting(work.vehicle)
        )


_NOT_WRITTEN = "the vehicle cannot write its flash or disk for now: see its log"
# By the vehicle's reason: what must change before the work can be done.
_PASSING = {
    "locked": "the vehicle is locked, until its maker lifts that",
    "full": "no room in the vehicle: its customer must remove a contract",
    "limited": "the vehicle's token gives out no more keys for now: see the limits of its service",
    "storage": _NOT_WRITTEN,
    "read-only": _NOT_WRITTEN,
    "io": _NOT_WRITTEN,
    "resources": "the vehicle's memory, flash or token is full: see its log",
    "unavailable": "the vehicle's vault does not work for now: see its log",
    "token-missing": "the vehicle's vault does not find its token for now: see its log",
    "clock": "the vehicle does not know the time, which it gets at each connection",
}
_ANSWERS = ("refused", "rejected", "protocol")  # reasons of a vehicle that answers
_OWN = (OpcpError, StateError, VaultError)  # of the pool, the backend's disk and its token
_ACTIONS = {INSTALL: Fleet._install, REMOVE: Fleet._remove, CHOOSE: Fleet._choose}


def _is_in(work: Work, held: list[ContractStatus]) -> bool:
    """Whether the vehicle has exactly this bundle and its key. EMAID and dates identify a
    bundle."""
    contract = response.read(exi.decode(work.message)).contract
    leaf = path.read(contract.certificate)
    bundle = (work.emaid, leaf.not_before, leaf.not_after)
    return bundle in [
        (contract.emaid, contract.not_before, contract.not_after)
        for contract in held
        if not contract.lost
    ]
