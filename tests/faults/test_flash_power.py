"""Power cuts while a board is flashed: the old files or the new ones, at every flash operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fixtures.unix_board import UnixBoard
from plugvault import runtimes
from plugvault.board import copying
from plugvault.board.errors import DeviceError

OLD = {
    "switch.py": (runtimes.program() / "switch.py").read_bytes(),
    "boot.py": b"import switch\nswitch.finish()\n",
    "evcc/a.mpy": b"old a" * 300,
    "evcc/gone.mpy": b"gone",
    "main.py": b"old = 1\n",
}
NEW = {
    **{path: data for path, data in OLD.items() if path != "evcc/gone.mpy"},
    "evcc/a.mpy": b"new a" * 400,
    "evcc/vault/c.mpy": b"new c",
    "main.py": b"new = 1\n",
}


def flash(board: UnixBoard, cut_at: int = 0, torn: str = "half") -> int:
    """Flash the new files; the number of flash operations that it took."""
    with board.repl(cut_at, torn) as repl:
        copying.switch(repl)
        copying.copy(repl, copying.compare(repl, NEW))
        return board.operations(repl)


@pytest.mark.parametrize("torn", ["before", "half", "after"])
def test_power_cut_leaves_the_old_files_or_the_new(
    any_board: UnixBoard, torn: str, some: Callable[[Sequence[int], int], list[Any]]
) -> None:
    with any_board.repl() as repl:
        copying.copy(repl, copying.compare(repl, OLD))
    before = any_board.flash.read_bytes()
    count = flash(any_board)
    outcomes = set()
    for at in some(range(1, count + 1), 10):
        any_board.flash.write_bytes(before)
        with pytest.raises(DeviceError, match="gone"):
            flash(any_board, at, torn)
        any_board.boot()
        files = any_board.files()
        board = {path: data for path, data in files.items() if not path.endswith(copying.NEW)}
        assert board in (OLD, NEW), at
        outcomes.add(board == NEW)
        flash(any_board)
        assert any_board.files() == NEW, at
    assert outcomes == {False, True}
