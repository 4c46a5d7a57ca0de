"""Waits that a clock far ahead has made end; waits of a right clock do not, whatever another
machine's clock says."""

from __future__ import annotations

import pytest

from plugvault.delivery import EndWaits, waits
from plugvault.delivery.worker import LEASE
from plugvault.ecosystem.background import WAITS_INTERVAL
from plugvault.opcp.services import Settings
from plugvault.pools import termination
from plugvault.pools.records import Delivery, Endpoint, Event, Job
from plugvault.store import SqlStore
from world import DAY, NOW

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
    assert claimed(pools, NOW + LONGEST + LEASE - 1) == 0
    with pools.write() as records:
        assert not records.jobs.claim(NOW + 1, NOW + 1 + termination.LEASE)


def test_so_many_retries_that_no_float_holds_the_pause_are_no_error(pools: SqlStore):
    EndWaits(Settings(retries=5000))(pools, NOW)


class Machine:
    """The end of waits on a machine. `clock`: its time minus the right one."""

    def __init__(self, clock: float) -> None:
        self.clock, self._seconds = clock, 0.0
        self._end_waits = EndWaits(SETTINGS, lambda: self._seconds)

    def at(self, pools: SqlStore, seconds: float) -> None:
        self._seconds = seconds
        self._end_waits(pools, NOW + seconds + self.clock)


def minutes(seconds: float) -> list[float]:
    """Every time of a run within these seconds."""
    return [WAITS_INTERVAL * turn for turn in range(int(seconds / WAITS_INTERVAL) + 1)]


@pytest.mark.parametrize("is_of_wrong", [False, True], ids=["right one's", "wrong one's"])
@pytest.mark.parametrize("is_first", [False, True], ids=["second", "first"])
@pytest.mark.parametrize("wrong", [-YEARS, -DAY, -LEASE, DAY, YEARS])
def test_a_wrong_clock_of_one_machine_makes_no_retry_due(
    pools: SqlStore, wrong: float, is_first: bool, is_of_wrong: bool
):
    machines = [Machine(0.0), Machine(wrong)]
    if is_first:
        machines.reverse()
    for machine in machines:
        machine.at(pools, 0.0)
    due = NOW + LONGEST + (wrong if is_of_wrong else 0.0)
    postpone(pools, due)
    for seconds in minutes(2 * waits.STALE)[1:]:
        for machine in machines:
            machine.at(pools, seconds)
    assert claimed(pools, due - 1) == 0
    assert claimed(pools, due) == 1


def test_a_clock_that_is_right_again_ends_the_waits_after_a_while(pools: SqlStore):
    machine = Machine(YEARS)
    machine.at(pools, 0.0)
    postpone(pools, NOW + YEARS)
    machine.clock = 0.0
    *before, last = minutes(WAITS_INTERVAL + waits.STALE)[1:]
    for seconds in before:
        machine.at(pools, seconds)
    assert claimed(pools, NOW + last) == 0
    machine.at(pools, last)
    assert claimed(pools, NOW + last) == 1
    postpone(pools, NOW + YEARS)
    machine.at(pools, last + WAITS_INTERVAL)
    assert claimed(pools, NOW + last + WAITS_INTERVAL) == 1


def test_a_clock_that_is_behind_is_told_once(pools: SqlStore, caplog: pytest.LogCaptureFixture):
    right, other = Machine(0.0), Machine(-DAY)
    for seconds in minutes(900):
        right.at(pools, seconds)
        other.clock = 0.0 if seconds == 300 else -DAY
        other.at(pools, seconds)
    told = "the clock is 86400 s behind one that used the same store"
    assert caplog.messages == [told, told]  # it was right in between
