"""The line on a terminal while a command waits for a board."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from plugvault.board import flash as flash_module
from plugvault.board.flash import Flash
from plugvault.cli import board as board_command
from plugvault.cli import flash as command
from plugvault.cli import waiting


def shown(is_terminal: bool) -> str:
    """The output of a wait of a second."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=100, highlight=False)
    with (
        waiting.waiting(console, "answer", "waiting for the module at /dev/[red]ttyUSB0[/]"),
        contextlib.redirect_stdout(io.StringIO()) as other,  # as while a prompt is opened
    ):
        time.sleep(1.2)
    assert other.getvalue() == ""
    return output.getvalue()


def test_long_wait_counts_its_seconds_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SHOWN", 0.9)
    output = shown(True)
    assert "… answer    waiting for the module at /dev/[red]ttyUSB0[/]" in output
    assert "(1 s)" in output


def test_short_wait_counts_nothing() -> None:
    assert " s)" not in shown(True)


def test_wait_is_one_line_without_a_terminal() -> None:
    assert shown(False) == "… answer    waiting for the module at /dev/[red]ttyUSB0[/]\n"


def test_waits_of_a_command_with_json_are_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(flash: Flash) -> None:
        with flash.report.during("prompt", "asking /dev/ttyACM0 for its prompt"):
            flash.result["uid"] = "e661"

    monkeypatch.setattr(flash_module.Flash, "run", run)
    app = typer.Typer()
    app.command()(command.flash)
    result = CliRunner().invoke(app, ["--json"])
    assert json.loads(result.stdout) == {"uid": "e661"}
    assert result.stderr == "… prompt    asking /dev/ttyACM0 for its prompt\n"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_command_for_a_board_shows_a_user_that_it_waits_for_the_module(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    @contextlib.contextmanager
    def bench(board: object) -> Iterator[Any]:
        time.sleep(0.1)
        yield SimpleNamespace(status=lambda: {"runtime": "micropython"})

    board = SimpleNamespace(link="/dev/ttyUSB0")
    monkeypatch.setattr(board_command, "_board", lambda port, link, data: board)
    monkeypatch.setattr(board_command, "BoardBench", bench)
    environment = {"FORCE_COLOR": "1"} if is_terminal else {"FORCE_COLOR": None, "NO_COLOR": "1"}
    result = CliRunner(env=environment).invoke(board_command.app, ["status", "--json"])
    assert json.loads(result.stdout) == {"runtime": "micropython"}
    assert ("waiting for the module at /dev/ttyUSB0" in result.stderr) == is_terminal
