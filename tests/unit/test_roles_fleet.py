"""The maker's work for a car that refuses it or stops answering."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundles import signed
from evcc import exi
from fixtures.fleet import until
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.roles import fleet
from plugvault.roles.backend import Backend
from plugvault.roles.client import OpcpError
from plugvault.roles.fleet import Fleet
from plugvault.roles.health import Health, HealthEvent
from plugvault.roles.state_file import StateError
from plugvault.roles.work_queue import CHOOSE, INSTALL, REMOVE, WorkQueue
from plugvault.telematics import ContractStatus, TelematicsError
from world import EMAID, NOW, PCID

OTHER = "DEPVT0000000X19"
FULL = TelematicsError("refused", "full")
NOT_FOUND = TelematicsError("refused", "not-found")
LOCKED = TelematicsError("refused", "locked")
BUNDLE = exi.encode(signed())


class Car:
    """`says`: what a request is answered with; `heard`: the requests."""

    def __init__(self) -> None:
        self.says: dict[str, Exception] = {}
        self.heard: list[tuple[str, str]] = []
        self.room = ""  # the request that makes room
        self.held: list[Any] = []

    def connect(self) -> bytes:
        if "connect" in self.says:
            raise self.says["connect"]
        return b""

    def contracts(self) -> list[Any]:
        return self.held

    def __getattr__(self, name: str) -> Any:
        def ask(first: Any = None, *_: Any) -> None:
            self.heard.append((name, first if isinstance(first, str) else ""))
            if name == self.room:
                del self.says["offer_contract"]
            if name in self.says:
                raise self.says[name]

        return ask


class Yard:
    """`channels`: the number of channels made; `compared`: the outcome of each comparison."""

    def __init__(self, folder: Path, health: Health | None = None) -> None:
        self.queue = WorkQueue(folder / "backend.sqlite")
        self.unchecked: Exception | None = None
        self.health = health or Health()
        self.compared: list[bool | Exception] = []
        self.comparisons = 0
        self.fleet = Fleet(self.queue, self._check, compare=self._compare, health=self.health)
        self.car = Car()
        self.channels = 0

    def _check(self, message: bytes, emaid: str) -> None:
        if self.unchecked:
            raise self.unchecked

    def _compare(self, pcid: str, link: Any) -> bool:
        self.comparisons += 1
        outcome = self.compared.pop(0) if self.compared else False
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def arrives(self) -> None:
        def connect(_: bytes) -> Any:
            self.channels += 1
            return self.car

        self.fleet.arrives(PCID, b"", connect)

    def told(self) -> list[str]:
        """The names of the events."""
        return [event.name for event in self.health.events]

    def add(self, action: str, emaid: str = EMAID) -> None:
        self.queue.add(PCID, emaid, action, BUNDLE if action == INSTALL else b"")
        self.fleet.wake(PCID)

    def seen(self) -> list[tuple[str, str]]:
        """(action, state) of all work that has been looked at."""
        return [(work.action, work.state) for work in self.queue.history(PCID)]

    def reasons(self) -> list[str]:
        return [work.reason for work in self.queue.history(PCID)]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    depot = Yard(tmp_path)
    yield depot
    depot.fleet.close()
    depot.queue.close()


def test_a_contract_for_which_there_is_no_room_waits_until_there_is(yard: Yard):
    yard.car.says["offer_contract"] = FULL
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: "no room" in yard.reasons()[0], "the car is full")
    assert yard.seen() == [(INSTALL, "waiting")]
    assert "install_contract" not in [name for name, _ in yard.car.heard]
    yard.car.room = "remove_contract"
    yard.add(REMOVE, OTHER)
    until(lambda: yard.seen() == [(INSTALL, "done"), (REMOVE, "done")], "room is made")


def test_a_contract_for_a_locked_car_waits_until_that_is_lifted(yard: Yard):
    yard.car.says["offer_contract"] = LOCKED
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: "locked" in yard.reasons()[0], "the car is locked")
    assert yard.seen() == [(INSTALL, "waiting")]
    del yard.car.says["offer_contract"]
    yard.fleet.wake(PCID)
    until(lambda: yard.seen() == [(INSTALL, "done")], "it is lifted")


@pytest.mark.parametrize(
    "reason, words",
    [
        ("resources", "is full"),
        ("storage", "cannot write"),
        ("clock", "the time"),
        ("unavailable", "vault does not work"),
        ("token-missing", "its token"),
    ],
)
def test_a_contract_waits_while_the_car_lacks_memory_a_vault_or_the_time(
    yard: Yard, reason: str, words: str
):
    yard.car.says["install_contract"] = TelematicsError("refused", reason)
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: words in yard.reasons()[0], "the car says so")
    assert yard.seen() == [(INSTALL, "waiting")]
    del yard.car.says["install_contract"]
    yard.fleet.wake(PCID)
    until(lambda: yard.seen() == [(INSTALL, "done")], "it has passed")


@pytest.mark.parametrize(
    "reason, words", [("full", "is full"), ("io", "cannot write"), ("read-only", "cannot write")]
)
def test_a_removal_waits_while_the_disk_of_the_car_takes_nothing(
    yard: Yard, reason: str, words: str
):
    yard.car.says["remove_contract"] = TelematicsError("refused", reason)
    yard.add(REMOVE)
    yard.arrives()
    until(lambda: words in yard.reasons()[0], "the car says so")
    assert yard.seen() == [(REMOVE, "waiting")]


def test_a_contract_that_cannot_be_checked_now_waits_and_delays_nothing(yard: Yard):
    yard.unchecked = OpcpError("unreachable", "OCSP")
    yard.add(INSTALL)
    yard.add(REMOVE, OTHER)
    yard.arrives()
    until(lambda: yard.seen() == [(INSTALL, "waiting"), (REMOVE, "done")], "the rest is done")
    assert "offer_contract" not in [name for name, _ in yard.car.heard]
    yard.unchecked = None
    yard.fleet.wake(PCID)
    until(lambda: (INSTALL, "done") in yard.seen(), "and then it is installed")


def test_a_contract_that_is_not_in_the_car_counts_as_removed(yard: Yard):
    yard.car.says["remove_contract"] = NOT_FOUND
    yard.add(REMOVE)
    yard.arrives()
    until(lambda: yard.seen() == [(REMOVE, "done")], "done")


def test_a_choice_waits_for_its_contract_and_for_no_other(yard: Yard):
    yard.car.says |= {"choose_contract": NOT_FOUND, "offer_contract": FULL}
    yard.add(INSTALL)
    yard.add(CHOOSE)
    yard.arrives()
    until(lambda: "" not in yard.reasons(), "both were tried")
    assert yard.seen() == [(INSTALL, "waiting"), (CHOOSE, "waiting")]
    yard.add(CHOOSE, OTHER)
    until(lambda: yard.seen()[2] == (CHOOSE, "rejected"), "there is no such contract")


def test_a_refusal_without_a_reason_is_final(yard: Yard):
    yard.car.says["install_contract"] = TelematicsError("rejected")
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: yard.seen() == [(INSTALL, "rejected")], "rejected")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts that a test need not wait for."""
    monkeypatch.setattr(fleet, "RECONNECT", 0.01)
    monkeypatch.setattr(fleet, "LONGEST_RECONNECT", 0.05)
    monkeypatch.setattr(fleet, "RETRY", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", ["connect", "offer_contract", "install_contract"])
def test_a_car_that_falls_silent_is_told_and_comes_back_by_itself(yard: Yard, when: str):
    yard.car.says[when] = TelematicsError("timeout", "the car does not answer")
    yard.add(INSTALL)
    assert not yard.fleet.is_there(PCID)
    yard.arrives()
    until(lambda: yard.channels > 3, "it is called again")
    assert yard.health.events[0] == ("gone", PCID, "timeout: the car does not answer")
    assert yard.seen() == [(INSTALL, "waiting")]
    yard.car.says.clear()
    until(lambda: yard.seen() == [(INSTALL, "done")], "installed")
    until(lambda: yard.fleet.is_there(PCID), "it is back")
    assert yard.told()[-1] == "back"
    assert len(yard.told()) == 2 or when != "connect"
    yard.fleet.leaves(PCID)
    assert not yard.fleet.is_there(PCID)


@pytest.mark.usefixtures("impatient")
def test_an_absent_car_has_no_contracts_to_show_and_delays_nobody(yard: Yard):
    yard.car.says["connect"] = TelematicsError("timeout")
    yard.arrives()
    until(lambda: "gone" in yard.told(), "told")
    assert yard.fleet.held(PCID) is None
    assert not yard.fleet.ask(PCID, lambda link: None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("error", [RuntimeError("a bug"), StateError("unavailable", "disk full")])
def test_no_error_ends_the_service_of_a_car(
    yard: Yard, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    errors = [error] * 3
    finish = yard.queue.finish

    def failing(*arguments: Any) -> None:
        if errors:
            raise errors.pop()
        finish(*arguments)

    monkeypatch.setattr(yard.queue, "finish", failing)
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: yard.seen() == [(INSTALL, "done")], "it goes on")
    until(lambda: yard.told() == ["failing", "works"], "and was told once")
    assert yard.health.failing == {}
    assert yard.fleet.is_there(PCID)


@pytest.mark.usefixtures("impatient")
def test_a_car_is_compared_until_it_needs_nothing_and_again_after_a_change(yard: Yard):
    yard.compared = [OpcpError("unreachable"), True, True, False]
    yard.arrives()
    until(lambda: yard.comparisons == 4, "compared")
    yard.add(INSTALL)
    until(lambda: yard.seen() == [(INSTALL, "done")], "installed")
    until(lambda: yard.comparisons > 4, "and compared again")


def test_a_comparison_without_end_does_not_spin(yard: Yard):
    yard.compared = [True] * 100
    yard.arrives()
    until(lambda: yard.comparisons == fleet._ROUNDS, "compared")
    yard.fleet.leaves(PCID)
    assert yard.comparisons == fleet._ROUNDS


def test_a_removal_that_must_wait_does_not_spin(yard: Yard):
    yard.car.says["remove_contract"] = TelematicsError("refused", "resources")
    yard.add(REMOVE)
    yard.arrives()
    until(lambda: yard.comparisons == 1, "tried")
    yard.fleet.leaves(PCID)
    assert [name for name, _ in yard.car.heard] == ["remove_contract"]


def test_a_bundle_whose_key_is_lost_in_the_car_is_installed_again(yard: Yard):
    contract = response.read(exi.decode(BUNDLE)).contract
    leaf = path.read(contract.certificate)
    held = ContractStatus(EMAID, "", leaf.not_before, leaf.not_after, "L1+", True, True)
    yard.car.held = [held]
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: yard.seen() == [(INSTALL, "done")], "installed")
    assert ("install_contract", "") in yard.car.heard


def test_a_car_whose_token_is_limited_gets_its_contract_later(yard: Yard):
    yard.car.says["install_contract"] = TelematicsError("refused", "limited")
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: "token" in yard.reasons()[0], "it waits")
    assert yard.seen() == [(INSTALL, "waiting")]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("error", [ConnectionResetError("the line"), RuntimeError("a bug")])
def test_link_with_an_unknown_error_is_replaced(yard: Yard, error: Exception):
    """The transport belongs to the caller, and its errors may be of any type."""
    first, yard.car = yard.car, Car()
    first.says["remove_contract"] = error
    links = [first]

    def connect(_: bytes) -> Any:
        return links.pop() if links else yard.car

    yard.add(REMOVE)
    yard.fleet.arrives(PCID, b"", connect)
    until(lambda: yard.seen() == [(REMOVE, "done")], "done on another link")
    until(lambda: yard.told() == ["failing", "works"], "told")
    assert first.heard == [("remove_contract", EMAID)]


def test_arrivals_at_the_same_time_leave_one_thread(yard: Yard):
    before = set(threading.enumerate())
    arrivals = [threading.Thread(target=yard.arrives) for _ in range(8)]
    for arrival in arrivals:
        arrival.start()
    for arrival in arrivals:
        arrival.join()
    until(lambda: yard.fleet.is_there(PCID), "it is there")
    until(lambda: len(set(threading.enumerate()) - before) == 1, "one thread")
    yard.fleet.leaves(PCID)
    assert set(threading.enumerate()) - before == set()


def test_car_that_arrives_again_finishes_its_task_first(yard: Yard):
    """Two threads on one channel would break both."""
    started, goes_on = threading.Event(), threading.Event()

    def connect_slowly(_: bytes) -> Any:
        started.set()
        goes_on.wait(30)
        return yard.car

    yard.fleet.arrives(PCID, b"", connect_slowly)
    assert started.wait(30)
    yard.arrives()
    assert yard.channels == 0
    goes_on.set()
    until(lambda: yard.channels == 1, "the new channel")


@pytest.mark.usefixtures("impatient")
def test_work_that_the_car_refuses_is_tried_once_in_a_turn(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
):
    """The comparison wants the same removal each time."""
    monkeypatch.setattr(fleet, "RETRY", 30.0)

    def compare(pcid: str, link: Any) -> bool:
        yard.comparisons += 1
        yard.queue.add(PCID, EMAID, REMOVE)
        return True

    monkeypatch.setattr(yard.fleet, "_compare", compare)
    yard.car.says["remove_contract"] = TelematicsError("refused", "internal")
    yard.arrives()
    until(lambda: yard.told() == ["refused"], "refused")
    yard.fleet.leaves(PCID)
    assert (yard.comparisons, yard.seen()) == (1, [(REMOVE, "rejected")])


def test_observer_may_call_a_car_while_its_work_is_under_way(tmp_path: Path):
    answers: list[bool] = []

    def observe(event: HealthEvent) -> None:
        answers.append(yard.fleet.ask(PCID, lambda link: link.unlock()))

    yard = Yard(tmp_path, Health(observe))
    yard.car.says["offer_contract"] = LOCKED
    yard.add(INSTALL)
    yard.arrives()
    until(lambda: answers == [True], "the car got it")
    assert yard.told() == ["locked"]
    yard.fleet.close()
    yard.health.close()
    yard.queue.close()


class Told(Car):
    """A car that says whether it is locked."""

    def __init__(self) -> None:
        super().__init__()
        self.locked = True
        self.certified, self.anchors, self.unnamed_keys = True, 1, 0

    def status(self) -> Any:
        return SimpleNamespace(
            locked=self.locked,
            envelopes=3,
            certified=self.certified,
            anchors=self.anchors,
            unnamed_keys=self.unnamed_keys,
        )


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    maker: Any = SimpleNamespace(
        check=lambda *_: None, point=lambda pcid: b"point", contracts=lambda pcid: []
    )
    with Backend(maker, tmp_path / "backend.sqlite", lambda: NOW) as opened:
        yield opened


def test_an_arriving_car_gets_the_time_and_the_revocation_list(backend: Backend):
    car: Any = Told()
    backend.revoke(b"a certificate")
    backend.arrives(PCID, lambda point: car)
    until(lambda: len(car.heard) == 2, "it was greeted")
    assert [name for name, _ in car.heard] == ["set_time", "install_revoked"]


def test_a_car_that_refuses_the_revocation_list_is_served_and_reported(backend: Backend):
    car: Any = Told()
    car.says["install_revoked"] = TelematicsError("refused", "older")
    backend.revoke(b"a certificate")
    backend.arrives(PCID, lambda point: car)
    until(lambda: backend.is_there(PCID), "it was greeted")
    until(lambda: backend.health.lasting("outdated") == {PCID}, "it was told")
    assert "failing" not in [event.name for event in backend.health.events]


def test_a_car_that_takes_the_list_again_is_outdated_no_longer(backend: Backend):
    car: Any = Told()
    backend.health.tell_change("outdated", PCID, "older")
    backend.revoke(b"a certificate")
    backend.arrives(PCID, lambda point: car)
    until(lambda: not backend.health.lasting("outdated"), "it was greeted")


def test_without_revocations_no_list_is_sent(backend: Backend):
    car: Any = Told()
    backend.arrives(PCID, lambda point: car)
    until(lambda: backend.locked == {PCID}, "it was greeted")
    assert [name for name, _ in car.heard] == ["set_time"]


@pytest.mark.parametrize(
    "certified, anchors, unnamed_keys, expected",
    [
        (True, 1, 0, []),
        (False, 1, 0, [("unprovisioned", "has no provisioning certificate")]),
        (False, 0, 0, [("unprovisioned", "has no provisioning certificate and no V2G root")]),
        (True, 0, 2, [("unprovisioned", "has no V2G root"), ("unnamed", "2 keys")]),
    ],
    ids=["ready", "without a certificate", "of the factory", "without roots"],
)
def test_a_car_that_cannot_pay_anywhere_or_has_spare_keys_is_reported(
    backend: Backend,
    certified: bool,
    anchors: int,
    unnamed_keys: int,
    expected: list[tuple[str, str]],
):
    car: Any = Told()
    car.certified, car.anchors, car.unnamed_keys = certified, anchors, unnamed_keys
    backend.arrives(PCID, lambda point: car)
    until(lambda: backend.is_there(PCID), "it was greeted")
    names = ("unprovisioned", "unnamed")
    until(lambda: len(backend.health.events) == 1 + len(expected), "it was told")
    told = [event for event in backend.health.events if event.name in names]
    for event, (name, text) in zip(told, expected, strict=True):
        assert (event.name, event.text.partition(":")[0]) == (name, text)


def test_new_trust_anchors_let_a_car_have_again_what_it_has_refused(backend: Backend):
    car: Any = Told()
    backend.queue.add(PCID, EMAID, INSTALL, b"bundle")
    (work,) = backend.queue.waiting(PCID)
    backend.queue.finish(work, "rejected", "the vehicle does not accept it")
    assert not backend.install_trust(PCID, "EU", [])
    assert backend.queue.is_refused(PCID, EMAID, b"bundle")
    backend.arrives(PCID, lambda point: car)
    until(lambda: backend.install_trust(PCID, "EU", []), "it is there")
    assert not backend.queue.is_refused(PCID, EMAID, b"bundle")
    assert ("install_trust", "EU") in car.heard


def test_a_locked_car_is_reported_and_unlocked_while_it_is_connected(backend: Backend):
    car: Any = Told()
    assert not backend.unlock(PCID)
    backend.arrives(PCID, lambda point: car)
    until(lambda: backend.locked == {PCID}, "it was greeted")
    until(lambda: backend.unlock(PCID), "it is there")
    assert backend.locked == set()


def test_observer_unlocks_a_car_as_soon_as_it_is_told(tmp_path: Path):
    unlocked: list[bool] = []

    def observe(event: HealthEvent) -> None:
        unlocked.append(opened.unlock(event.subject))

    maker: Any = SimpleNamespace(
        point=lambda pcid: b"point", contracts=lambda pcid: [], check=None
    )
    car: Any = Told()
    with Backend(maker, tmp_path / "backend.sqlite", lambda: NOW, observe) as opened:
        opened.arrives(PCID, lambda point: car)
        until(lambda: unlocked == [True], "unlocked")
        assert opened.locked == set()
