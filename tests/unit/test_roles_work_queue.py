"""The maker's work queue keeps every event once, across any stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugvault.roles.state_file import StateError
from plugvault.roles.work_queue import (
    CHOOSE,
    DONE,
    FINISHED,
    INSTALL,
    REJECTED,
    REMEMBERED,
    REMOVE,
    REPLACED,
    WAITING,
    WorkQueue,
)  # fmt: skip

CAR, OTHER, EMAID, SECOND = "PVTP0000000000001", "PVTP2", "DEPVT0000000012", "DEPVT0000000X19"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backend.sqlite"


@pytest.fixture
def queue(file: Path) -> Iterator[WorkQueue]:
    opened = WorkQueue(file)
    yield opened
    opened.close()


def told(queue: WorkQueue) -> list[tuple[str, str, str]]:
    return [(work.action, work.emaid, work.state) for work in queue.history(CAR)]


def test_one_backend_at_a_time_uses_a_file(file: Path):
    first = WorkQueue(file)
    first.state_file.set_position("7")
    with pytest.raises(StateError, match="another backend uses it"):
        WorkQueue(file)
    first.close()
    first.close()
    second = WorkQueue(file)
    assert second.state_file.position() == "7"
    second.close()


def test_it_survives_its_process(file: Path):
    queue = WorkQueue(file)
    queue.settle("1", "", (CAR, EMAID, INSTALL, b"bundle"))
    queue.settle("2", "expired")
    queue.state_file.set_position("7")
    queue.set_point(CAR, b"point")
    del queue  # without a close, as after a crash
    again = WorkQueue(file)
    (work,) = again.waiting(CAR)
    assert (work.emaid, work.action, work.message) == (EMAID, INSTALL, b"bundle")
    assert (
        again.state_file.outcome("1"),
        again.state_file.outcome("2"),
        again.state_file.outcome("3"),
    ) == (
        "",
        "expired",
        None,
    )
    assert (again.state_file.position(), again.point(CAR), again.point(OTHER)) == (
        "7",
        b"point",
        None,
    )
    again.close()


def test_it_begins_at_the_beginning(queue: WorkQueue):
    assert queue.state_file.position() == "0"


def test_only_its_owner_can_read_it(queue: WorkQueue, file: Path):
    assert file.stat().st_mode & 0o077 == 0


def test_an_event_told_twice_makes_work_once(queue: WorkQueue):
    for _ in range(2):
        queue.settle("1", "", (CAR, EMAID, INSTALL, b"bundle"))
    queue.settle("1", "expired")
    assert told(queue) == [(INSTALL, EMAID, WAITING)]
    assert queue.state_file.outcome("1") == ""


def test_each_vehicle_has_its_own_in_the_order_it_came(queue: WorkQueue):
    queue.add(CAR, EMAID, INSTALL, b"1")
    queue.add(OTHER, EMAID, INSTALL, b"2")
    queue.add(CAR, SECOND, INSTALL, b"3")
    assert [work.message for work in queue.waiting(CAR)] == [b"1", b"3"]
    assert [work.message for work in queue.waiting(OTHER)] == [b"2"]


@pytest.mark.parametrize(
    "before, new, remaining",
    [
        ((INSTALL, EMAID), (INSTALL, EMAID), []),
        ((INSTALL, EMAID), (REMOVE, EMAID), []),
        ((REMOVE, EMAID), (INSTALL, EMAID), []),
        ((CHOOSE, EMAID), (REMOVE, EMAID), []),
        ((CHOOSE, EMAID), (CHOOSE, SECOND), []),
        ((CHOOSE, EMAID), (INSTALL, EMAID), [(CHOOSE, EMAID)]),
        ((INSTALL, EMAID), (CHOOSE, EMAID), [(INSTALL, EMAID)]),
        ((INSTALL, SECOND), (REMOVE, EMAID), [(INSTALL, SECOND)]),
    ],
)
def test_new_work_replaces_the_work_it_makes_void(
    queue: WorkQueue,
    before: tuple[str, str],
    new: tuple[str, str],
    remaining: list[tuple[str, str]],
):
    for action, emaid in (before, new):
        queue.add(CAR, emaid, action)
    assert [(work.action, work.emaid) for work in queue.waiting(CAR)] == [*remaining, new]


def test_finished_work_waits_no_more(queue: WorkQueue):
    queue.add(CAR, EMAID, INSTALL)
    queue.add(CAR, SECOND, INSTALL)
    first, second = queue.waiting(CAR)
    queue.finish(first, DONE)
    queue.finish(second, REJECTED, "why")
    assert queue.waiting(CAR) == []
    assert queue.history(CAR)[1].reason == "why"


def test_work_replaced_while_it_was_under_way_stays_replaced(queue: WorkQueue):
    queue.add(CAR, EMAID, INSTALL)
    (under_way,) = queue.waiting(CAR)
    queue.add(CAR, EMAID, REMOVE)
    queue.finish(under_way, DONE)
    assert told(queue) == [(INSTALL, EMAID, REPLACED), (REMOVE, EMAID, WAITING)]


def test_waiting_work_may_hold_a_reason(queue: WorkQueue):
    queue.add(CAR, EMAID, INSTALL)
    queue.finish(queue.waiting(CAR)[0], WAITING, "no room")
    assert queue.waiting(CAR)[0].reason == "no room"


def test_old_finished_work_is_deleted_and_its_contracts_stay_listed(queue: WorkQueue):
    queue.add(CAR, SECOND, INSTALL, b"waits")
    for number in range(FINISHED + 3):
        queue.add(CAR, f"E{number}", REMOVE)
        queue.finish(queue.waiting(CAR)[-1], REJECTED)
    queue.add(OTHER, EMAID, INSTALL)
    newest = [f"E{number}" for number in range(2, FINISHED + 3)]  # the next task deletes E2
    assert [work.emaid for work in queue.history(CAR)] == [SECOND, *newest]
    assert queue.listed(CAR) == {SECOND, "E0", "E1", *newest}
    assert queue.listed(OTHER) == {EMAID}


def refuse(queue: WorkQueue, reason: str = "the vehicle does not accept it") -> None:
    queue.add(CAR, EMAID, INSTALL, b"bundle")
    (work,) = queue.waiting(CAR)
    queue.finish(work, REJECTED, reason)


def test_a_refusal_by_the_vehicle_is_forgotten_after_a_day(file: Path):
    now = 1000.0
    queue = WorkQueue(file, lambda: now)
    refuse(queue)
    now += REMEMBERED
    assert queue.is_refused(CAR, EMAID, b"bundle")
    assert not queue.is_refused(CAR, EMAID, b"another bundle")
    now += 1
    assert not queue.is_refused(CAR, EMAID, b"bundle")
    queue.close()


def test_a_refusal_that_a_clock_ahead_has_dated_does_not_count(file: Path):
    now = 1e9
    queue = WorkQueue(file, lambda: now)
    refuse(queue)
    now = 1000.0
    assert not queue.is_refused(CAR, EMAID, b"bundle")
    queue.close()


def test_a_refusal_by_the_maker_is_none_of_the_vehicle(queue: WorkQueue):
    refuse(queue, "revoked: a certificate")
    assert not queue.is_refused(CAR, EMAID, b"bundle")


def test_a_refusal_is_forgotten_when_the_customer_chooses_the_contract(queue: WorkQueue):
    refuse(queue)
    queue.intend(CAR, EMAID)
    queue.end_intention(CAR, EMAID, is_chosen=False)
    assert queue.is_refused(CAR, EMAID, b"bundle")
    queue.intend(CAR, EMAID)
    queue.end_intention(CAR, EMAID, is_chosen=True)
    assert not queue.is_refused(CAR, EMAID, b"bundle")
