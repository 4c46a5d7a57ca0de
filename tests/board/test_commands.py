"""`plugvault board simulate` with the commands of another terminal; the demo on such a board."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fixtures.flashing import FirstFlash, patience
from plugvault.board.repl import Repl
from plugvault.cli.board import app

TESTS = Path(__file__).parents[1]
TIMEOUT = 600  # seconds, for a board that hangs
PATIENT = """
from fixtures.flashing import patience
from plugvault.cli.app import main
with patience():
    main()
"""
pytestmark = pytest.mark.xdist_group("board")


def start(*arguments: str) -> subprocess.Popen[str]:
    """`plugvault` in a process of its own, with time-outs for a busy machine."""
    command = [sys.executable, "-c", PATIENT, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@contextmanager
def simulated(data: Path) -> Iterator[dict[str, Any]]:
    """What `plugvault board simulate` prints when its board is ready; Ctrl-C at the end."""
    with start("board", "simulate", "--json", "--data", str(data)) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def lines(data: Path, *arguments: str) -> list[Any]:
    """What `plugvault board` prints for these arguments, JSON in each line."""
    with patience():
        ended = CliRunner().invoke(app, [*arguments, "--json", "--data", str(data)])
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture
def data(first_flash: FirstFlash, tmp_path: Path) -> Path:
    """The folder of a board that `simulate` has flashed before."""
    folder = shutil.copytree(first_flash.data, tmp_path / "data")
    shutil.copyfile(first_flash.flash, folder / "simulated-pico.bin")
    return folder


def test_simulated_board_answers_another_terminal_and_logs_its_start(
    first_flash: FirstFlash, data: Path
) -> None:
    with simulated(data) as board:
        assert board["uid"] == first_flash.result["uid"]
        with patience():
            ended = CliRunner().invoke(app, ["status", "--json", "--data", str(data)])
        status = json.loads(ended.stdout)
        assert status["runtime"].startswith("micropython")
        assert (status["vault"], status["certified"], status["contracts"]) == ("link", False, [])
        with patience(), Repl(board["prompt"], soft_reset=False) as repl:
            repl.reset()  # the clock of a Pico loses its time, and the module says so
        seen = lines(data, "log", "--seconds", "1")
        deadline = time.monotonic() + TIMEOUT
        while not any("no date is judged" in line["text"] for line in seen):
            assert time.monotonic() < deadline, seen
            seen += lines(data, "log", "--seconds", "10")
        assert {line["channel"] for line in seen} <= {"event", "log"}


def test_demo_on_a_simulated_board_verifies_every_step(emulator: None, whole: bool) -> None:
    if not whole:
        pytest.skip("a minute: in make soak; tests/e2e/test_demo_board.py has a board on Linux")
    with start("demo", "--board", "simulated", "--json") as process:
        report = json.loads(process.communicate(timeout=3 * TIMEOUT)[0])
    assert (process.returncode, report["ok"]) == (0, True), report.get("error")
    assert "flash" in [step["name"] for step in report["steps"]]
    assert all(step["verified"] for step in report["steps"])
    assert len(report["contracts"]) == 2
