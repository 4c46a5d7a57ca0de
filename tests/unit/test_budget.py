"""What an address may spend: at once, and from then on."""

from __future__ import annotations

import pytest
from fastapi import Request

from plugvault.opcp import budget
from plugvault.opcp.budget import Budget, address


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_so_much_at_once_and_so_much_a_second_for_each_alone():
    clock = Clock()
    tries = Budget(3, 2.0, clock)
    for _ in range(3):
        assert tries.wait("a") == 0.0
        tries.spend("a")
    assert tries.wait("a") == 0.5
    assert tries.wait("b") == 0.0
    clock.now += 0.5
    assert tries.wait("a") == 0.0
    tries.spend("a")
    assert tries.wait("a") == 0.5
    clock.now += 3600  # no more than at first, however long ago it was
    for _ in range(3):
        tries.spend("a")
    assert tries.wait("a") == 0.5


def test_who_spends_without_waiting_owes_nothing():
    tries = Budget(1, 1.0, Clock())
    for _ in range(10):
        tries.spend("a")
    assert tries.wait("a") == 1.0


def test_memory_is_bounded_and_who_spent_last_is_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "KNOWN", 2)
    tries = Budget(1, 1.0, Clock())
    for who in ("a", "b", "a", "c"):
        tries.spend(who)
    assert [tries.wait(who) > 0 for who in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    "client, found",
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("testclient", 1), "testclient"),
        (None, ""),
    ],
)
def test_a_host_with_many_addresses_is_one(client: tuple[str, int] | None, found: str):
    assert address(Request({"type": "http", "client": client})) == found
