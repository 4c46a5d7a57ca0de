"""A P-256 verification on the emulated board: its figures are counted, so a test can hold them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "tools/benchmarks/run.py"
pytestmark = pytest.mark.xdist_group("board")


def test_verification_on_a_board_is_within_its_budgets(emulator: None) -> None:
    ended = subprocess.run(
        [sys.executable, RUN, "verification", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    over = [row["name"] for row in json.loads(ended.stdout) if not row["within"]]
    assert (over, ended.returncode) == ([], 0)
