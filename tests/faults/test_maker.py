"""Pool and car after anything that parts them: a stop, a lost key, a full disk, a lost event.

A real car with a real token, and the maker's backend, which is stopped at every step.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plugvault.car
from fixtures.disks import object_files, token_folder
from fixtures.fleet import PCID, Garage, until
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.car import Car
from plugvault.roles import fleet, follower
from plugvault.roles.backend import Backend
from plugvault.roles.client import OpcpError
from plugvault.roles.state_file import StateError, StateFile
from plugvault.roles.work_queue import INSTALL, WorkQueue
from plugvault.telematics import ContractStatus, Maker

Some = Callable[..., list[Any]]
SOAK = bool(os.environ.get("PLUGVAULT_SOAK"))
STRIDE = 4  # steps between two stops with one car, which opens 128 envelopes in its life


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test need not wait for."""
    monkeypatch.setattr(follower, "RETRY", 0.05)
    monkeypatch.setattr(fleet, "RECONNECT", 0.05)
    monkeypatch.setattr(fleet, "COMPARE", 0.5)


def pool(garage: Garage) -> dict[str, bool]:
    """The contracts in the pool, and whether each is the default."""
    return {entry["emaid"]: entry["defaultContract"] for entry in garage.world.oem.contracts(PCID)}


def car(garage: Garage) -> dict[str, ContractStatus]:
    held = garage.backend._fleet.held(PCID)
    return {contract.emaid: contract for contract in held or ()}


def agree(garage: Garage) -> bool:
    """Whether the car has the pool's contracts, whole, and pays with the pool's default."""
    listed, held = pool(garage), car(garage)
    whole = {emaid for emaid, contract in held.items() if not contract.lost}
    active = [emaid for emaid, contract in held.items() if contract.active]
    return whole == set(listed) and active == [emaid for emaid in listed if listed[emaid]]


def two(garage: Garage) -> tuple[str, str]:
    """Two contracts in the car, the first one the default."""
    first = garage.world.mo.contract(PCID)
    second = garage.world.mo_v2g.contract(PCID)
    garage.arrives()
    until(lambda: len(car(garage)) == 2 and agree(garage), "both are installed")
    return first, second


def restarted(garage: Garage, follow: bool = True) -> Backend:
    garage.stop()
    return garage.start(follow=follow)


# The changes between two looks of the backend at the car. `garage` is without its backend.


def _removed_in_the_car(garage: Garage, first: str, second: str) -> None:
    own_channel(garage).remove_contract(second)


def _chosen_in_the_car(garage: Garage, first: str, second: str) -> None:
    own_channel(garage).choose_contract(second)


def _default_removed_in_the_car(garage: Garage, first: str, second: str) -> None:
    own_channel(garage).remove_contract(first)


def _chosen_in_the_pool(garage: Garage, first: str, second: str) -> None:
    garage.world.oem.choose(PCID, second)


def _default_ended(garage: Garage, first: str, second: str) -> None:
    garage.world.mo.terminate(first)


def _renewed(garage: Garage, first: str, second: str) -> None:
    garage.world.mo.contract(PCID, first)


def _added(garage: Garage, first: str, second: str) -> None:
    garage.world.mo.contract(PCID)


DIFFERENCES = (
    _removed_in_the_car, _chosen_in_the_car, _default_removed_in_the_car, _chosen_in_the_pool,
    _default_ended, _renewed, _added,
)  # fmt: skip


def own_channel(garage: Garage) -> Any:
    maker = garage.car.maker(garage.world.telematics_key, garage.world.oem.point(PCID))
    maker.connect()
    return maker


def test_every_difference_is_mended_without_an_event(garage: Garage, some: Some):
    """The backend reads no events from here on: the lists alone must do."""
    first, second = two(garage)
    for difference in some(DIFFERENCES, 4):
        garage.leaves()
        restarted(garage, follow=False)
        difference(garage, first, second)
        garage.arrives()
        until(lambda: agree(garage), difference.__name__)
        if difference is _default_ended:  # for the differences after it
            first = garage.world.mo.contract(PCID)
            garage.backend.choose(PCID, first)
            until(lambda: agree(garage), "as before")


def test_after_the_default_has_ended_none_pays_wherever_the_car_was(garage: Garage):
    first, second = two(garage)
    garage.world.mo.terminate(first)
    until(lambda: list(car(garage)) == [second] and agree(garage), "only the second")
    assert not car(garage)[second].active
    garage.backend.choose(PCID, second)
    until(lambda: car(garage)[second].active, "it was chosen")
    garage.leaves()
    third = garage.world.mo.contract(PCID)
    garage.world.mo_v2g.terminate(second)
    garage.arrives()
    until(lambda: list(car(garage)) == [third] and agree(garage), "only the third")
    assert not car(garage)[third].active


def test_a_lost_key_is_told_and_mended(garage: Garage, car_token: CarToken):
    before = set(object_files(car_token))
    first, _ = two(garage)
    garage.leaves()
    garage.car.close()
    for name in set(object_files(car_token)) - before:
        (token_folder(car_token) / name).unlink()  # the contract keys, behind the car's back
    garage.car.__enter__()
    garage.arrives()
    until(lambda: agree(garage), "mended")
    assert "lost" in [event.name for event in garage.backend.health.events]
    view = {contract.emaid: contract for contract in garage.backend.customer_view(PCID).contracts}
    assert (view[first].in_vehicle, view[first].active, view[first].lost) == (True, True, False)


# A choice, at each of its steps.


class Stop(Exception):
    """The process dies here."""


def test_a_choice_survives_a_stop_at_any_step(garage: Garage, monkeypatch: pytest.MonkeyPatch):
    first, second = two(garage)
    choose = garage.world.oem.choose

    def before_the_pool(pcid: str, emaid: str) -> None:
        raise Stop

    def after_the_pool(pcid: str, emaid: str) -> None:
        choose(pcid, emaid)
        raise Stop

    for emaid, at in ((second, before_the_pool), (first, after_the_pool), (second, choose)):
        garage.leaves()
        with monkeypatch.context() as patch, contextlib.suppress(Stop):
            patch.setattr(garage.world.oem, "choose", at)
            garage.backend.choose(PCID, emaid)
        restarted(garage)
        until(lambda emaid=emaid: pool(garage)[emaid], "the pool has it, without the car")
        garage.arrives()
        until(lambda emaid=emaid: agree(garage) and car(garage)[emaid].active, "and the car")


def test_a_choice_waits_for_a_pool_that_is_away_and_a_refused_one_does_not(
    garage: Garage, monkeypatch: pytest.MonkeyPatch
):
    _, second = two(garage)

    def away(pcid: str, emaid: str) -> None:
        raise OpcpError("unreachable", "no answer")

    with monkeypatch.context() as patch:
        patch.setattr(garage.world.oem, "choose", away)
        garage.backend.choose(PCID, second)
        waiting = {c.emaid: c.waiting for c in garage.backend.customer_view(PCID).contracts}
        assert waiting[second] == ("waits for the pool",)
    until(lambda: agree(garage) and car(garage)[second].active, "chosen")
    with pytest.raises(OpcpError, match="refused"):
        garage.backend.choose(PCID, "DEPVA0000000012")
    assert garage.backend.queue.intended() == []


def test_a_contract_that_its_customer_took_out_stays_out(garage: Garage):
    first, second = two(garage)
    garage.backend.remove(PCID, second)
    until(lambda: list(car(garage)) == [first], "removed")
    garage.world.mo_v2g.contract(PCID, second)  # renewed
    garage.leaves()
    restarted(garage)
    garage.arrives()
    until(lambda: garage.backend.is_there(PCID), "it is there")
    assert list(car(garage)) == [first]
    garage.backend.choose(PCID, second)
    until(lambda: agree(garage) and car(garage)[second].active, "wanted again")


class Story:
    """Pool, car and work at the time of a failure, for its message."""

    def __init__(self, garage: Garage, point: int) -> None:
        self._garage, self._point = garage, point

    def __repr__(self) -> str:
        backend = self._garage.backend
        work = [(w.action, w.emaid, w.state, w.reason) for w in backend.queue.history(PCID)]
        lists = f"{pool(self._garage)} {car(self._garage)} {work} {backend.queue.intended()}"
        return f"stopped at step {self._point}: {lists} {backend.health.events}"


class Steps:
    """Counts what the backend does: a transaction, a call of the pool, a request to the car. At
    the step `stop_at` it dies, before the step or after it, and does nothing more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
        self.count, self.stop_at, self.is_dead = 0, -1, False
        for owner, name in (
            (StateFile, "set_position"), (WorkQueue, "settle"), (WorkQueue, "finish"),
            (WorkQueue, "intend"), (WorkQueue, "end_intention"), (WorkQueue, "add_after"),
            (Maker, "_exchange"), (client, "call"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self._die_at()
            result = real(*arguments, **named)
            self._die_at()
            return result

        return step

    def _die_at(self) -> None:
        self.is_dead = self.is_dead or self.count == self.stop_at
        self.count += 1
        if self.is_dead:
            raise Stop


def live(garage: Garage, steps: Steps) -> None:
    """Contracts come, are chosen and end. A backend that dies is started again."""

    def settled() -> None:
        until(lambda: steps.is_dead or agrees(garage, steps), "alive")
        if steps.is_dead:
            point, steps.is_dead, steps.stop_at = steps.stop_at, False, -1
            garage.leaves()
            restarted(garage)
            garage.arrives()
            what: Any = Story(garage, point)
            until(lambda: agree(garage), what)

    first = garage.world.mo.contract(PCID)
    second = garage.world.mo_v2g.contract(PCID)
    with contextlib.suppress(Stop):
        garage.arrives()
    settled()
    with contextlib.suppress(Stop):
        garage.backend.choose(PCID, second)
    settled()
    garage.world.mo_v2g.terminate(second)
    settled()
    with contextlib.suppress(Stop):
        garage.backend.choose(PCID, first)
    settled()
    garage.world.mo.terminate(first)
    settled()


def agrees(garage: Garage, steps: Steps) -> bool:
    with contextlib.suppress(Stop):
        return agree(garage)
    return False


@pytest.mark.parametrize("start", range(STRIDE) if SOAK else [0])
def test_a_backend_that_dies_at_any_step_ends_with_pool_and_car_alike(
    garage: Garage, some: Some, monkeypatch: pytest.MonkeyPatch, start: int
):
    """Each start has a car of its own, and all starts together have every step."""
    # A token opens twelve keys in an hour, and the steps take more.
    service = functools.partial(plugvault.car.VaultService, openings_per_hour=None)
    monkeypatch.setattr(plugvault.car, "VaultService", service)
    garage.leaves()
    garage.car.close()
    garage.car.__enter__()
    garage.arrives()
    steps = Steps(monkeypatch, garage.world.oem.client)
    live(garage, steps)
    count = steps.count
    points = some(range(start, count, STRIDE), 2)
    for point in points:
        steps.count, steps.stop_at = 0, point
        live(garage, steps)
    print(f"the backend stopped at {len(points)} of {count} steps")


# Two cars.

OTHER = "PVTP0891448460943"


def test_a_car_that_dies_holds_up_no_other_and_comes_back_by_itself(
    garage: Garage, car_token: CarToken
):
    world, folder = garage.world, garage.folder / "other"
    key = world.telematics_key
    token = car_token.configuration()
    with Car(runtimes.cpython(), "tcp", folder, maker=key.point, token=token) as other:
        maker = other.maker(key)
        maker.connect()
        leaf, subs = world.oem.enrol(maker.csr(OTHER, "Example Cars", "DE"))
        maker.install_trust("EU", world.oem.anchors("EU", leaf, subs))
        maker.install_certificate([leaf, *subs])
        world.oem.register(leaf, subs, [world.v2g_root])
        garage.backend.arrives(OTHER, lambda point: other.maker(key, point))
        garage.arrives()
        until(lambda: garage.backend.is_there(OTHER), "both are there")
        os.kill(other.pid, signal.SIGKILL)
        theirs, ours = world.mo.contract(OTHER), world.mo.contract(PCID)
        until(lambda: list(car(garage)) == [ours], "the first car has its contract")
        until(lambda: not garage.backend.is_there(OTHER), "the other one is gone")
        other.close()
        other.__enter__()
        until(lambda: garage.backend.is_there(OTHER), "it is back")
        done = ("install", theirs, "done")
        history = garage.backend.queue.history
        until(lambda: done in [(w.action, w.emaid, w.state) for w in history(OTHER)], "installed")
        garage.backend.leaves(OTHER)
    told = [event.name for event in garage.backend.health.events if event.subject == OTHER]
    assert told == ["gone", "back"]


# The maker's own disk.


def test_a_full_disk_of_the_backend_loses_no_contract(garage: Garage):
    """Every write fails for a while, as on a full disk; the threads go on, and tell it."""
    garage.arrives()
    until(lambda: garage.backend.is_there(PCID), "it is there")
    database = garage.backend.queue.state_file._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    emaids = {garage.world.mo.contract(PCID) for _ in range(2)}
    failing = garage.backend.health
    until(lambda: failing.failing, "told")
    assert "full" in " ".join(failing.failing.values())
    database.execute("PRAGMA max_page_count = 1000000")
    until(lambda: set(car(garage)) == emaids and agree(garage), "installed")
    until(lambda: failing.failing == {}, "and works")
    assert {"failing", "works"} <= {event.name for event in failing.events}


def test_a_lost_state_file_is_made_from_the_pool_again(garage: Garage):
    """As after a restore of an older backup: the position is behind, or there is none."""
    first, second = two(garage)
    garage.stop()
    for file in garage.folder.glob("backend.sqlite*"):
        file.unlink()
    garage.world.mo.terminate(first)
    garage.start()
    garage.arrives()
    until(lambda: list(car(garage)) == [second] and agree(garage), "as in the pool")


def test_a_transaction_that_failed_leaves_a_file_that_works(tmp_path: Path):
    queue = WorkQueue(tmp_path / "backend.sqlite")
    database = queue.state_file._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StateError, match="full") as caught:
        queue.add(PCID, "DEPVT0000000012", INSTALL, bytes(100_000))
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert queue.history(PCID) == []
    database.execute("PRAGMA max_page_count = 1000000")
    queue.add(PCID, "DEPVT0000000012", INSTALL, bytes(100_000))
    assert len(queue.history(PCID)) == 1
    queue.close()
