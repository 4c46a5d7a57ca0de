"""Waits that a clock far ahead has made end; waits of a right clock do not."""

from __future__ import annotations

import pytest

from plugvault.delivery import EndWaits
from plugvault.delivery.worker import LEASE
from plugvault.opcp.services import Settings
from plugvault.pools import termination
from plugvault.pools.records import Delivery, Endpoint, Event, Job
from plugvault.store import SqlStore
from world import NOW

YEARS = 10 * 365 * 86_400.0
SETTINGS = Settings()
LONGEST = 4 * 3600.0  # the last of three retries after 1, 2 and 4 hours


@pytest.fixture
def pools(store: SqlStore) -> SqlStore:
    with store.write() as records:
        records.endpoints.put(
            Endpoint("w", "me", "Me", "OEM", "PVT", "https://w.example", "", 1, True)
        )
        records.events.add(Event("e", "oem.contract.created", 1, "PVT", "{}", "", ""))
        records.deliveries.put(Delivery("e", "w", "", due=NOW))
        records.jobs.put(Job("j", "terminate", "DEPVT", "me", 1))
    return store


def claimed(pools: SqlStore, now: float) -> int:
    with pools.write() as records:
        return len(records.deliveries.claim("w", now, now + LEASE, 10))


def postpone(pools: SqlStore, due: float) -> None:
    with pools.write() as records:
        records.deliveries.put(Delivery("e", "w", "", "pending", 2, due))


def test_a_delivery_postponed_under_a_clock_years_ahead_is_due(pools: SqlStore):
    postpone(pools, NOW + YEARS)
    assert claimed(pools, NOW) == 0
    EndWaits(SETTINGS)(pools, NOW)
    assert claimed(pools, NOW) == 1


def test_a_delivery_leased_under_a_clock_years_ahead_is_free(pools: SqlStore):
    assert claimed(pools, NOW + YEARS) == 1
    assert claimed(pools, NOW) == 0
    EndWaits(SETTINGS)(pools, NOW)
    assert claimed(pools, NOW) == 1


def test_a_job_leased_under_a_clock_years_ahead_is_free(pools: SqlStore):
    with pools.write() as records:
        assert records.jobs.claim(NOW + YEARS, NOW + YEARS + termination.LEASE)
        assert not records.jobs.claim(NOW, NOW + termination.LEASE)
    EndWaits(SETTINGS)(pools, NOW)
    with pools.write() as records:
        assert records.jobs.claim(NOW, NOW + termination.LEASE)


def test_the_longest_wait_of_a_right_clock_goes_on(pools: SqlStore):
    postpone(pools, NOW + LONGEST)
    EndWaits(SETTINGS)(pools, NOW)
    assert claimed(pools, NOW + LONGEST - 1) == 0
    assert claimed(pools, NOW + LONGEST) == 1
    with pools.write() as records:
        assert records.jobs.claim(NOW, NOW + termination.LEASE)
    EndWaits(SETTINGS)(pools, NOW + LONGEST)
    EndWaits(SETTINGS)(pools, NOW)
    assert claimed(pools, NOW + LONGEST + LEASE - 1) == 0
    with pools.write() as records:
        assert not records.jobs.claim(NOW + 1, NOW + 1 + termination.LEASE)


def test_so_many_retries_that_no_float_holds_the_pause_are_no_error(pools: SqlStore):
    EndWaits(Settings(retries=5000))(pools, NOW)
