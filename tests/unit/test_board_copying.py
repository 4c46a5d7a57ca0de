"""Files onto a board: only what differs, checked, and old or new after any power cut."""

from __future__ import annotations

import pytest

from fixtures.unix_board import UnixBoard
from plugvault import runtimes
from plugvault.board import copying, facts
from plugvault.board.errors import DeviceError

SWITCH = runtimes.program() / "switch.py"
BOOT = b"import switch\nswitch.finish()\n"
OLD = {
    "switch.py": SWITCH.read_bytes(),
    "boot.py": BOOT,
    "evcc/a.mpy": b"old a" * 300,
    "evcc/link/b.mpy": b"old b",
    "evcc/gone.mpy": b"gone",
    "main.py": b"old = 1\n",
    "config.json": b"{}",
}
NEW = {
    **{path: data for path, data in OLD.items() if path != "evcc/gone.mpy"},
    "evcc/a.mpy": b"new a" * 400,
    "evcc/vault/c.mpy": b"new c",
    "main.py": b"new = 1\n",
}


def flash(board: UnixBoard, files: dict[str, bytes]) -> copying.Changes:
    with board.repl() as repl:
        copying.switch(repl)
        changes = copying.compare(repl, files)
        copying.copy(repl, changes)
        return changes


def test_empty_board_gets_every_file(any_board: UnixBoard) -> None:
    changes = flash(any_board, OLD)
    assert set(changes.changed) == set(OLD)
    assert any_board.files() == OLD


def test_only_different_files_are_copied_and_unneeded_ones_removed(any_board: UnixBoard) -> None:
    flash(any_board, OLD)
    copied: list[str] = []
    with any_board.repl() as repl:
        changes = copying.compare(repl, NEW)
        copying.copy(repl, changes, lambda path, size: copied.append(path))
    assert sorted(copied) == ["evcc/a.mpy", "evcc/vault/c.mpy", "main.py"]
    assert changes.removed == ["evcc/gone.mpy"]
    assert changes.unchanged == 4
    assert any_board.files() == NEW


def test_equal_board_is_not_written_at_all(any_board: UnixBoard) -> None:
    flash(any_board, OLD)
    with any_board.repl() as repl:
        changes = copying.compare(repl, OLD)
        copying.copy(repl, changes)
        assert not changes
        assert any_board.operations(repl) == 0


def test_files_of_the_user_stay(any_board: UnixBoard) -> None:
    flash(any_board, {"store/contracts": b"x"})
    any_board.put("notes.txt", b"mine")
    flash(any_board, NEW)
    assert any_board.files() == {**NEW, "store/contracts": b"x", "notes.txt": b"mine"}


def test_interrupted_copy_continues_with_the_missing_files(any_board: UnixBoard) -> None:
    flash(any_board, OLD)

    class Interrupt(BaseException):
        pass

    def interrupt(path: str, size: int) -> None:
        raise Interrupt

    with any_board.repl() as repl, pytest.raises(Interrupt):
        copying.copy(repl, copying.compare(repl, NEW), interrupt)
    board = {
        path: data for path, data in any_board.files().items() if not path.endswith(copying.NEW)
    }
    assert board == OLD
    with any_board.repl() as repl:
        changes = copying.compare(repl, NEW)
        assert changes.staged == {"evcc/a.mpy"}
        copying.copy(repl, changes)
    assert any_board.files() == NEW


def test_left_overs_of_another_version_are_removed(any_board: UnixBoard) -> None:
    with any_board.repl() as repl:
        repl.run("import os\nos.mkdir('evcc')\nopen('evcc/x.mpy.new', 'w').close()")
        repl.run("open('flash.plan.new', 'w').close()")
    flash(any_board, NEW)
    assert any_board.files() == NEW


def test_changed_bytes_on_the_way_are_noticed_and_the_old_files_stay(
    any_board: UnixBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash(any_board, OLD)
    with any_board.repl() as repl:
        write = repl.write
        monkeypatch.setattr(repl, "write", lambda path, data: write(path, data[:-1] + b"?"))
        with pytest.raises(DeviceError, match=r"copy: .*evcc/a\.mpy"):
            copying.copy(repl, copying.compare(repl, NEW))
    board = {
        path: data for path, data in any_board.files().items() if not path.endswith(copying.NEW)
    }
    assert board == OLD


def test_full_board_is_refused_before_a_byte_is_written(any_board: UnixBoard) -> None:
    with any_board.repl() as repl:
        described = facts.ask(repl)
        files = {"evcc/large.mpy": bytes(described.flash_free)}
        with pytest.raises(DeviceError, match="unfit: the new files take"):
            copying.require_room(copying.compare(repl, files), described)
        assert any_board.operations(repl) == 0
