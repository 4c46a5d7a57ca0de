"""What the maker's backend remembers: everything it was told, once, across any stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugvault.roles.backlog import (
    CHOOSE,
    DONE,
    INSTALL,
    REJECTED,
    REMOVE,
    REPLACED,
    WAITING,
    Backlog,
)  # fmt: skip

CAR, OTHER, EMAID, SECOND = "PVTP0000000000001", "PVTP2", "DEPVT0000000012", "DEPVT0000000X19"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backend.sqlite"


@pytest.fixture
def backlog(file: Path) -> Iterator[Backlog]:
    opened = Backlog(file)
    yield opened
    opened.close()


def told(backlog: Backlog) -> list[tuple[str, str, str]]:
    return [(work.action, work.emaid, work.state) for work in backlog.history(CAR)]


def test_it_survives_its_process(file: Path):
    backlog = Backlog(file)
    backlog.settle("1", "", (CAR, EMAID, INSTALL, b"bundle"))
    backlog.settle("2", "expired")
    backlog.memory.go_on("7")
    backlog.know(CAR, b"point")
    del backlog  # without a close, as after a crash
    again = Backlog(file)
    (work,) = again.waiting(CAR)
    assert (work.emaid, work.action, work.message) == (EMAID, INSTALL, b"bundle")
    assert (again.memory.verdict("1"), again.memory.verdict("2"), again.memory.verdict("3")) == (
        "",
        "expired",
        None,
    )
    assert (again.memory.place(), again.point(CAR), again.point(OTHER)) == ("7", b"point", None)
    again.close()


def test_it_begins_at_the_beginning(backlog: Backlog):
    assert backlog.memory.place() == "0"


def test_only_its_owner_can_read_it(backlog: Backlog, file: Path):
    assert file.stat().st_mode & 0o077 == 0


def test_an_event_told_twice_makes_work_once(backlog: Backlog):
    for _ in range(2):
        backlog.settle("1", "", (CAR, EMAID, INSTALL, b"bundle"))
    backlog.settle("1", "expired")
    assert told(backlog) == [(INSTALL, EMAID, WAITING)]
    assert backlog.memory.verdict("1") == ""


def test_each_vehicle_has_its_own_in_the_order_it_came(backlog: Backlog):
    backlog.add(CAR, EMAID, INSTALL, b"1")
    backlog.add(OTHER, EMAID, INSTALL, b"2")
    backlog.add(CAR, SECOND, INSTALL, b"3")
    assert [work.message for work in backlog.waiting(CAR)] == [b"1", b"3"]
    assert [work.message for work in backlog.waiting(OTHER)] == [b"2"]


@pytest.mark.parametrize(
    "before, new, left",
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
def test_new_work_takes_the_place_of_what_it_makes_void(
    backlog: Backlog, before: tuple[str, str], new: tuple[str, str], left: list[tuple[str, str]]
):
    for action, emaid in (before, new):
        backlog.add(CAR, emaid, action)
    assert [(work.action, work.emaid) for work in backlog.waiting(CAR)] == [*left, new]


def test_what_is_finished_waits_no_more(backlog: Backlog):
    backlog.add(CAR, EMAID, INSTALL)
    backlog.add(CAR, SECOND, INSTALL)
    first, second = backlog.waiting(CAR)
    backlog.finish(first, DONE)
    backlog.finish(second, REJECTED, "why")
    assert backlog.waiting(CAR) == []
    assert backlog.history(CAR)[1].reason == "why"


def test_what_was_replaced_while_it_was_under_way_stays_replaced(backlog: Backlog):
    backlog.add(CAR, EMAID, INSTALL)
    (under_way,) = backlog.waiting(CAR)
    backlog.add(CAR, EMAID, REMOVE)
    backlog.finish(under_way, DONE)
    assert told(backlog) == [(INSTALL, EMAID, REPLACED), (REMOVE, EMAID, WAITING)]


def test_what_still_waits_may_say_why(backlog: Backlog):
    backlog.add(CAR, EMAID, INSTALL)
    backlog.finish(backlog.waiting(CAR)[0], WAITING, "no room")
    assert backlog.waiting(CAR)[0].reason == "no room"
