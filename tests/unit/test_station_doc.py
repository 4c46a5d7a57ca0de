"""The document of the station is held to its command."""

from dataclasses import fields
from pathlib import Path

import pytest

from plugvault.cli.station.options import Options

TEXT = (Path(__file__).parents[2] / "host/docs/station.md").read_text()
SPELLED = {"as_json": "json"}


@pytest.mark.parametrize("field", [field.name for field in fields(Options)])
def test_every_option_is_in_the_document(field: str) -> None:
    assert f"--{SPELLED.get(field, field).replace('_', '-')}" in TEXT
