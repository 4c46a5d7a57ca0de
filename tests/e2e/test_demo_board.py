"""`plugvault demo --board`: the demo's car is a board, which is as before afterwards."""

from __future__ import annotations

import functools
import json

import pytest
import typer
from typer.testing import CliRunner

from fixtures.unix_flashing import PORT, LinkedBoard
from plugvault.board.flash import Flash
from plugvault.cli.demo import demo
from plugvault.demo import board as demo_board


def test_demo_on_a_board_is_verified_and_gives_the_board_back(
    linked_board: LinkedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked_board.flash()
    pcid = linked_board.command("provision")["pcid"]
    before = without_time(linked_board)
    monkeypatch.setattr(demo_board, "Repl", lambda device: linked_board.prompt(device, True))
    flash = functools.partial(Flash, opened=linked_board.prompt)
    monkeypatch.setattr(demo_board, "Flash", flash)
    app = typer.Typer()
    app.command()(demo)
    words = ["--json", "--board", PORT, "--board-link", linked_board.uart.port]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    record = json.loads(run.stdout)
    assert record["ok"]
    assert without_time(linked_board) == before
    linked_board.board.start_module()
    assert linked_board.command("status")["pcid"] == pcid


def without_time(board: LinkedBoard) -> dict[str, bytes]:
    """The board's files, but for the time, which its module notes to the hour."""
    return {path: data for path, data in board.board.files().items() if path != "store/time"}
