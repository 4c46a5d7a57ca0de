from evcc.errors import EvccError
from helpers import raises


class DoorError(EvccError):
    REASONS = ("locked",)


def test_reason_and_detail_are_kept():
    error = raises(DoorError, "locked", _shut, "locked", "turn the key")
    assert error.detail == "turn the key"
    assert str(error) == "locked: turn the key"


def test_detail_may_be_left_out():
    assert str(DoorError("locked")) == "locked"


def test_reason_outside_the_closed_list_is_refused():
    raises(ValueError, None, DoorError, "ajar")


def _shut(reason, detail):
    raise DoorError(reason, detail)
