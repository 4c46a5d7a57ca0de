"""The other two ways of the module onto a board: mip from its sources, and frozen in firmware."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fixtures.board import StartBoard, mpremote
from fixtures.flashing import Record, patience
from plugvault.board import facts
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards
from plugvault.board.repl import Repl
from plugvault.emulated_board import EmulatedBoard

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "firmware"
BUILD = ROOT / "tools/board/firmware/build_frozen"
pytestmark = pytest.mark.xdist_group("board")


def test_mip_installs_the_module_from_its_sources(
    empty_flash: Path, start_board: StartBoard, whole: bool
) -> None:
    if not whole:
        pytest.skip("a minute: in make soak; tests/e2e/test_board_install.py installs on Linux")
    board = start_board(empty_flash)
    mpremote(board, "mip", "install", str(FIRMWARE / "package.json"))
    # boot.py collects garbage early, without which the sources find no room to be compiled.
    mpremote(board, "cp", str(FIRMWARE / "switch.py"), str(FIRMWARE / "boot.py"), ":")
    output = mpremote(board, "exec", "import evcc.module; print(evcc.module.__file__)")
    assert output.endswith("/lib/evcc/module.py\n")


@pytest.fixture(scope="module")
def frozen_firmware(emulator: None, whole: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MicroPython with the module in it, by `firmware/manifest.py`."""
    if not whole:
        pytest.skip("a minute of building: in make soak")
    folder = tmp_path_factory.mktemp("frozen")
    subprocess.run([BUILD, folder], check=True, capture_output=True)
    return folder / "firmware.bin"


def test_frozen_module_runs_and_flash_copies_only_the_boards_own_files(
    frozen_firmware: Path, tmp_path: Path
) -> None:
    with patience(), EmulatedBoard(tmp_path / "flash.bin", frozen_firmware) as board:
        port = board.wait_for_serial_port()
        with Repl(port) as repl:
            described = facts.ask(repl)
        assert described.frozen
        boards = Boards(tmp_path / "data")
        with Flash(boards, Wishes(port=port, link=board.uart), Record()) as run:
            run.run()
    own = ["boot.py", "config.json", "main.py", "switch.py", "vault-key"]
    assert run.result["files"]["changed"] == own
    assert run.result["status"]["runtime"].startswith("micropython")
