"""The budget of an address: its burst and its rate."""

from __future__ import annotations

import pytest
from fastapi import Request

from plugvault.opcp import budget
from plugvault.opcp.budget import Budget, address


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_address_has_its_own_burst_and_rate():
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


def test_spending_without_waiting_leaves_no_debt():
    tries = Budget(1, 1.0, Clock())
    for _ in range(10):
        tries.spend("a")
    assert tries.wait("a") == 1.0


def test_memory_is_bounded_and_keeps_the_latest_spender(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "KNOWN", 2)
    tries = Budget(1, 1.0, Clock())
    for name in ("a", "b", "a", "c"):
        tries.spend(name)
    assert [tries.wait(name) > 0 for name in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    "client, expected",
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("testclient", 1), "testclient"),
        (None, ""),
    ],
)
def test_many_addresses_of_one_host_are_one(client: tuple[str, int] | None, expected: str):
    assert address(Request({"type": "http", "client": client})) == expected
