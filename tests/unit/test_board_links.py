"""The link that a command of `plugvault board` names."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fixtures.flashing import Record
from fixtures.unix_board import PICO
from plugvault.board import repl
from plugvault.board.bench import BoardBench
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Board, Boards
from plugvault.cli import board as board_command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def boards(tmp_path: Path, softhsm: Path) -> Boards:
    """The folder of a board with a module."""
    boards = Boards(tmp_path / "data")
    boards.make(PICO).save(prompt="unix://prompt", link="unix://link", maker="04")
    return boards


class Answering:
    """A bench whose module answers. `links`: of every bench."""

    links: list[str]

    def __init__(self, board: Board) -> None:
        self.board = board
        self.links.append(board.link)

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {"runtime": "micropython", "contracts": [], "vault": "link"}


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> type[Answering]:
    Answering.links = []
    monkeypatch.setattr(board_command, "BoardBench", Answering)
    return Answering


def run(boards: Boards, *arguments: str) -> Result:
    """`plugvault board` with these arguments."""
    return CliRunner().invoke(board_command.app, [*arguments, "--data", str(boards.data)])


def recorded(boards: Boards) -> str:
    (board,) = boards.all()
    return board.link


def test_link_that_is_the_boards_prompt_is_refused(
    boards: Boards, answering: type[Answering]
) -> None:
    result = run(boards, "status", "--link", "unix://prompt", "--json")
    assert "prompt and link are one port" in json.loads(result.stdout)["error"]["detail"]
    assert (answering.links, recorded(boards)) == ([], "unix://link")


def test_recorded_link_that_is_the_boards_prompt_is_refused_at_once(boards: Boards) -> None:
    (board,) = boards.all()
    with (
        pytest.raises(DeviceError, match="one port"),
        BoardBench(board.save(link="unix://prompt")),
    ):
        pass


def test_link_of_the_options_is_recorded_after_the_modules_answer(
    boards: Boards, answering: type[Answering]
) -> None:
    assert run(boards, "status", "--link", "unix://other").exit_code == 0
    assert (answering.links, recorded(boards)) == (["unix://other"], "unix://other")


def test_link_of_the_options_is_not_recorded_where_no_module_answers(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def silent(board: Board) -> Iterator[None]:
        raise DeviceError("silent", "no answer")
        yield

    monkeypatch.setattr(board_command, "BoardBench", silent)
    assert run(boards, "status", "--link", "unix://other").exit_code == 1
    assert recorded(boards) == "unix://link"


@pytest.mark.parametrize("name", ["status", "provision", "log", "reset"])
def test_board_whose_first_flash_was_interrupted_is_to_be_flashed_before_it_is_used(
    boards: Boards, name: str
) -> None:
    (board,) = boards.all()
    board.save(maker="")
    result = run(boards, name)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"state: the module is not on the board {PICO.uid}")
    assert "`plugvault flash`" in result.stderr


def test_swapped_ports_are_told_in_their_order_before_the_board_is_touched(
    boards: Boards,
) -> None:
    wishes = Wishes(port="unix://link", link="unix://prompt")
    with Flash(boards, wishes, Record()) as flash, pytest.raises(DeviceError) as caught:
        flash.run()
    assert "`plugvault flash unix://prompt --link unix://link`" in caught.value.detail


def test_ports_without_a_prompt_are_told_with_their_order_and_the_place_of_the_way_out() -> None:
    assert "`plugvault flash PROMPT --link LINK`" in repl._SILENT
    (file,) = re.findall(r"boot\.py \((\S+)\)", repl._SILENT)
    assert "The way out" in (ROOT / file).read_text()
