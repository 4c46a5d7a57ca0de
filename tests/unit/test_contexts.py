"""The base classes of contexts close what they opened, after any end."""

from __future__ import annotations

import pytest

from plugvault.contexts import Closeable, Startable


class Door(Closeable):
    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class House(Startable):
    def __init__(self, fails: bool = False) -> None:
        self.door = Door()
        self._fails = fails

    def _start(self) -> None:
        self._stack.enter_context(self.door)
        if self._fails:
            raise ValueError("at the start")


def test_end_of_a_context_closes_the_object() -> None:
    with Door() as door:
        assert door.is_open
    assert not door.is_open


def test_error_in_a_context_closes_the_object_and_is_raised() -> None:
    door = Door()
    with pytest.raises(ValueError, match="inside"), door:
        raise ValueError("inside")
    assert not door.is_open


def test_started_object_stays_open_until_the_end() -> None:
    with House() as house:
        assert house.door.is_open
    assert not house.door.is_open


def test_failed_start_closes_every_open_resource() -> None:
    house = House(fails=True)
    with pytest.raises(ValueError, match="at the start"), house:
        pytest.fail("entered")
    assert not house.door.is_open
