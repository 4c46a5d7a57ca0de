"""A time as an option of a command."""

import pytest
import typer

from plugvault.cli.times import seconds


def test_unix_seconds_and_iso_8601_are_one_time():
    assert seconds("1790000000") == seconds("2026-09-21T14:13:20Z") == 1_790_000_000


@pytest.mark.parametrize("text", ["9" * 5000, "\u00b2" * 9, "soon"])
def test_a_text_that_is_no_time_is_refused(text: str):
    with pytest.raises(typer.BadParameter, match="is not a time"):
        seconds(text)
