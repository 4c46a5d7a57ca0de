"""The refusals of `flash` before it writes, and the board after them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fixtures.flashing import Record
from fixtures.unix_board import UnixBoard
from plugvault.board import bytecode, configuration, copying, facts
from plugvault.board.configuration import BoardUart
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards

MAKER, OTHER = b"\x04" + bytes(64), b"\x04" + bytes([1]) * 64
UART = BoardUart(1, 4, 5)


class Refusing(Record):
    """A user who says no."""

    def agree(self, question: str) -> bool:
        super().agree(question)
        return False


def flash(board: UnixBoard, tmp_path: Path, record: Record, **wishes: object) -> None:
    chosen = Wishes(port="/dev/null", link="/dev/zero", uart=UART, maker=MAKER)
    chosen = dataclasses.replace(chosen, **wishes)  # type: ignore[arg-type]
    boards = Boards(tmp_path / "data")
    with Flash(boards, chosen, record, lambda device, soft_reset: board.repl()) as run:
        run.run()


def test_refused_board_is_unchanged_and_runs_again(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "OLDEST", (9, 0))
    before = unix_board.files()
    with pytest.raises(DeviceError, match="unfit"):
        flash(unix_board, tmp_path, Record())
    assert unix_board.transports[-1].restarted
    assert unix_board.files() == before
    assert not (tmp_path / "data").exists()


def test_user_who_does_not_agree_to_erase_ends_the_command_before_the_board_is_touched(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    record = Refusing()
    with pytest.raises(DeviceError, match="nothing was erased"):
        flash(unix_board, tmp_path, record, erase_contracts=True)
    assert len(record.questions) == 1
    assert unix_board.transports == []


def test_board_of_another_maker_stays_with_it_without_the_users_agreement(
    unix_board: UnixBoard, tmp_path: Path, softhsm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "module", lambda facts: {"main.py": b"new"})
    old = configuration.make(UART, "aabbccdd", OTHER)
    with unix_board.repl() as repl:
        copying.copy(repl, copying.compare(repl, {"config.json": old, "main.py": b"old"}))
    record = Refusing()
    with pytest.raises(DeviceError, match="keeps its maker"):
        flash(unix_board, tmp_path, record)
    assert len(record.questions) == 1
    assert unix_board.files() == {"config.json": old, "main.py": b"old"}
    assert unix_board.transports[-2].restarted


def test_dry_run_makes_no_board_here_and_writes_nothing_there(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    before = unix_board.flash.read_bytes()
    with unix_board.repl() as repl:
        assert unix_board.operations(repl) == 0
        before = unix_board.flash.read_bytes()
    record = Record()
    flash(unix_board, tmp_path, record, dry_run=True)
    assert record.steps == ["board", "files"]
    assert unix_board.flash.read_bytes() == before
    assert not (tmp_path / "data").exists()
