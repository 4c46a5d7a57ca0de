"""Kill -9, at any moment of an installation: the old contract or the new one, each able to sign.

By ptrace where a moment is to be hit exactly (every change of a file, every request to the vault),
by the clock otherwise. Not with a debugger attached to the tests: a process has one tracer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fixtures.grounds import Ground
from fixtures.tokens import CarToken
from grounds import objects
from plugvault.tokens.providers import SOFTHSM
from plugvault.vault_service.service import VaultService
from world import World

Some = Callable[..., list[Any]]
KILLED = -9


@pytest.mark.parametrize("runtime", ["cpython", "debian"])
def test_a_kill_at_any_change_of_a_file_costs_no_contract(
    each_ground: Ground, some: Some, runtime: str
) -> None:
    """The car that drives its token itself: the token's own files, the chains and the index."""
    ground, how = each_ground, each_ground.on(runtime)
    calls = ground("install", **how)["calls"]
    index = calls.index(["rename", "contracts.new"])
    points = {index, index + 1, *some(range(len(calls)), 3 if how else 10)}
    if ground.token.provider is SOFTHSM:
        login = calls.index(["ftruncate", "token.object"])
        points.add(login + 1)  # the token's own file is empty then
    seen: Counter[str] = Counter()
    for at in sorted(points):
        ground.restore()
        assert ground("install", before=at, **how)["code"] == KILLED
        if how:  # else the look into it is its start
            assert ground("start", **how)["code"] == 0
        seen[ground.survived()] += 1
    assert set(seen) == {"old", "new"}
    print(f"killed before each of {sum(seen.values())} changes of files: {dict(seen)}")


def test_a_kill_during_recovery_costs_no_contract(ground: Ground, some: Some) -> None:
    """The second start finds the state that the first one would have made."""
    calls = ground("install")["calls"]
    index = calls.index(["rename", "contracts.new"])
    count = 0
    for before in (index, index + 1):  # a key too many, and two
        ground.restore()
        ground("install", before=before)
        ground.keep()
        steps = range(len(ground("start")["calls"]))
        for at in some(steps, 4):
            ground.restore()
            assert ground("start", before=at)["code"] == KILLED
            ground.survived()
            count += 1
    print(f"killed before each of {count} changes of files by two recoveries")


@pytest.fixture
def served(world: World, car_token: CarToken) -> Iterator[tuple[Ground, VaultService]]:
    """A car with its token in a service; in the end nothing is left over."""
    service = car_token.service()
    ground = Ground(world, car_token, str(service.socket_path))
    with service:
        yield ground, service
    ground.close()
    vault = car_token.open()
    assert objects(vault) == 6
    vault.close()


def victims(service: VaultService, victim: str) -> list[int]:
    """Return the process ids for `tracing`: 0 is the module."""
    return [0] * (victim != "service") + [service.pid] * (victim != "module")


@pytest.mark.parametrize("victim", ["module", "service", "both"])
def test_a_kill_at_any_step_of_the_module_costs_no_contract(
    served: tuple[Ground, VaultService], some: Some, victim: str
) -> None:
    """Before every request to the vault and every change of the store."""
    ground, service = served
    calls = ground("install")["calls"]
    assert ["sendto", "socket"] in calls
    ground.survived()
    seen: Counter[str] = Counter()
    for at in some(range(len(calls)), 4):
        ground.renew()
        ground("install", before=at, victims=victims(service, victim))
        seen[ground.survived()] += 1
    print(f"{victim} killed before each of {sum(seen.values())} steps of the module: {dict(seen)}")


@pytest.mark.parametrize("victim", ["module", "service", "both"])
def test_a_kill_at_a_random_time_costs_no_contract(
    served: tuple[Ground, VaultService], whole: bool, victim: str
) -> None:
    ground, service = served
    seen: Counter[str] = Counter()
    for _ in range(200 if whole else 3):
        ground.renew()
        ground("race", after=random.uniform(0, 0.08), victims=victims(service, victim))
        seen[ground.survived()] += 1
    print(f"{victim} killed at {sum(seen.values())} random moments: {dict(seen)}")
