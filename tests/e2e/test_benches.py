"""Every benchmark runs: each figure of the README stays reproducible."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from plugvault import runtimes

RUN = Path(__file__).parents[2] / "tools/benchmarks/run.py"
SHORT = ("bundle", "certificates", "exi", "installation", "link")  # seconds
NEEDS = {"installation": "debian"}  # a MicroPython


def run(*names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RUN, *names, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", SHORT)
def test_a_benchmark_has_its_figures(name: str):
    if name in NEEDS and runtimes.get(NEEDS[name]) is None:
        pytest.skip(f"MicroPython {NEEDS[name]} is not here")
    require_figures(name, run(name))  # whether they are within budgets, a busy machine cannot say


def require_figures(name: str, ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.stdout, ended.stderr
    rows = json.loads(ended.stdout)
    assert rows
    for row in rows:
        assert row["file"] == name
        assert math.isfinite(row["value"])
        assert row["value"] > 0


def test_heap_of_a_board_is_within_its_budgets():
    if runtimes.get("debian32") is None:
        pytest.skip("MicroPython debian32 is not here")
    ended = run("memory")  # bytes, which a busy machine does not change
    require_figures("memory", ended)
    over = [row["name"] for row in json.loads(ended.stdout) if not row["within"]]
    assert (over, ended.returncode) == ([], 0)


def test_a_failing_benchmark_does_not_stop_the_others():
    ended = run("nothing", "exi")
    failed, *rows = json.loads(ended.stdout)
    assert (failed["file"], failed["within"]) == ("nothing", False)
    assert {row["file"] for row in rows} == {"exi"}
    assert "No module named 'nothing'" in ended.stderr
    assert ended.returncode == 1
