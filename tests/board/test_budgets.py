"""The figures of the emulated board are counted, so a test can hold their budgets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "tools/benchmarks/run.py"
pytestmark = pytest.mark.xdist_group("board")


def over_budget(benchmark: str) -> list[str]:
    """The names of the figures over their budgets."""
    ended = subprocess.run(
        [sys.executable, RUN, benchmark, "--json"], capture_output=True, text=True, check=False
    )
    over = [row["name"] for row in json.loads(ended.stdout) if not row["within"]]
    assert (ended.returncode == 0) == (over == []), ended.stderr
    return over


def test_verification_on_a_board_is_within_its_budgets(emulator: None) -> None:
    assert over_budget("verification") == []


def test_life_of_a_board_is_within_its_budgets(emulator: None, whole: bool) -> None:
    """Heap, longest pause, import and link, with .mpy files and frozen."""
    if not whole:
        pytest.skip("ten minutes: in make soak")
    assert over_budget("board") == []
