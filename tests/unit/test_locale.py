"""A user's locale changes no result: under Turkish rules "I" is not the capital of "i"."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Prints the outcomes of a new event, of the same event again, and of a statement on two rows.
SCRIPT = """
import locale, pathlib, sys
assert locale.setlocale(locale.LC_CTYPE) == "tr_TR.UTF-8"
from plugvault.roles.state_file import StateFile, is_new_event
state = StateFile(pathlib.Path(sys.argv[1]), "CREATE TABLE IF NOT EXISTS pairs (a, b)")
with state.transaction() as run:
    print(is_new_event(run, "event"), is_new_event(run, "event"))
    print(run("INSERT INTO pairs VALUES (1, 2), (3, 4)", ()), run("DELETE FROM pairs", ()))
"""


@pytest.fixture
def turkish(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with a Turkish locale, made here."""
    command = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(tmp_path / "tr_TR.UTF-8")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no sources of locales here: apt-get install locales")
    return {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": "tr_TR.UTF-8"}


def test_a_new_event_is_new_under_a_turkish_locale(turkish: dict[str, str], tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "state.sqlite")],
        env=turkish,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("True False\n2 2\n", "")


def test_no_code_trusts_the_row_count_of_pythons_sqlite():
    files = (ROOT / "host/plugvault").rglob("*.py")
    assert [file.name for file in files if ".rowcount" in file.read_text()] == ["transaction.py"]
