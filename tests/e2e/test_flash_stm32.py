"""`plugvault flash` and `board` with the module on a MicroPython whose files are in /flash.

Everything runs but the chip: MicroPython's Unix port is the board (`fixtures.unix_board`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.flashing import Record
from fixtures.unix_board import Uart, UnixBoard
from plugvault.board.bench import BoardBench
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards

pytestmark = pytest.mark.usefixtures("softhsm")


class Stm32:
    """A board with its module, and the folder of this computer for it."""

    def __init__(self, board: UnixBoard, data: Path, link: str) -> None:
        self.board, self.link = board, link
        self.boards = Boards(data)

    def flash(self, cut_at: int = 0, **wishes: Any) -> dict[str, Any]:
        """The record of one run. cut_at: the flash operation at which the power is cut."""
        chosen = Wishes(port="/dev/null", link=self.link, **wishes)
        opened = lambda device, soft_reset: self.board.repl(cut_at)  # noqa: E731
        with Flash(self.boards, chosen, Record(), opened) as run:
            run.run()
        return run.result


@pytest.fixture
def board(stm32: UnixBoard, tmp_path: Path) -> Iterator[Stm32]:
    uart = Uart()
    stm32.connect(uart)
    yield Stm32(stm32, tmp_path / "data", uart.port)
    stm32.stop_module()
    uart.close()


def test_empty_board_is_flashed_in_its_own_root_and_answers_and_is_equal_afterwards(
    board: Stm32,
) -> None:
    result = board.flash()
    assert result["board"]["root"] == "/flash/"
    assert result["files"]["unchanged"] == 0
    assert result["status"]["runtime"].startswith("micropython")
    assert result["status"]["vault"] == "link"
    files = board.board.files()
    assert {"boot.py", "main.py", "config.json", "vault-key", "evcc/module.mpy"} <= set(files)
    assert b'"/flash/store"' in files["config.json"]
    assert b'"/flash/vault-key"' in files["config.json"]
    assert {"store/contracts", "store/time"} <= set(files)
    again = board.flash()
    assert again["files"]["changed"] == again["files"]["removed"] == []


def test_plan_that_a_power_cut_has_left_is_finished_by_boot_py_and_the_new_module_answers(
    board: Stm32,
) -> None:
    board.flash()
    new = board.board.files()["main.py"] + b"# a new version\n"
    board.board.put("main.py.new", new)
    board.board.put("flash.plan", b"+main.py\n-switch.py")
    board.board.start_module()
    with BoardBench(board.boards.find(None, [])) as bench:
        assert bench.status()["runtime"].startswith("micropython")
    files = board.board.files()
    assert files["main.py"] == new
    assert {"main.py.new", "flash.plan", "switch.py"}.isdisjoint(files)


def test_configuration_by_hand_has_relative_paths_and_its_store_is_in_the_root(
    board: Stm32,
) -> None:
    board.flash()
    settings = json.loads(board.board.files()["config.json"])
    settings["store"] = "own"
    settings["vault"]["key_file"] = "vault-key"
    board.board.put("config.json", json.dumps(settings).encode())
    board.board.start_module()
    with BoardBench(board.boards.find(None, [])) as bench:
        assert bench.status()["vault"] == "link"
    assert "own/contracts" in board.board.files()
