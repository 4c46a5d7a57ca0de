"""`plugvault flash` with the module on a MicroPython whose files are in /flash.

Everything runs but the chip: MicroPython's Unix port is the board (`fixtures.unix_board`).
"""

from __future__ import annotations

import json

from fixtures.flashing import Record
from fixtures.unix_board import UID
from fixtures.unix_flashing import LinkedBoard
from plugvault.board.bench import BoardBench
from plugvault.board.folder import Boards


def test_empty_board_is_flashed_in_its_own_root_and_answers_and_is_equal_afterwards(
    linked_board: LinkedBoard,
) -> None:
    record = Record()
    result = linked_board.flash(record)
    assert record.warnings == []
    assert result["board"]["root"] == "/flash/"
    assert result["files"]["unchanged"] == 0
    assert result["status"]["runtime"].startswith("micropython")
    assert result["status"]["vault"] == "link"
    files = linked_board.board.files()
    assert {"boot.py", "main.py", "config.json", "vault-key", "evcc/module.mpy"} <= set(files)
    assert b'"/flash/store"' in files["config.json"]
    assert b'"/flash/vault-key"' in files["config.json"]
    assert {"store/contracts", "store/time"} <= set(files)
    again = linked_board.flash()
    assert again["files"]["changed"] == again["files"]["removed"] == []


def test_plan_that_a_power_cut_has_left_is_finished_by_boot_py_and_the_new_module_answers(
    linked_board: LinkedBoard,
) -> None:
    linked_board.flash()
    board = linked_board.board
    new = board.files()["main.py"] + b"# a new version\n"
    board.put("main.py.new", new)
    board.put("flash.plan", b"+main.py\n-switch.py")
    board.start_module()
    with BoardBench(Boards(linked_board.data).find(None, [])) as bench:
        assert bench.status()["runtime"].startswith("micropython")
    files = board.files()
    assert files["main.py"] == new
    assert {"main.py.new", "flash.plan", "switch.py"}.isdisjoint(files)


def test_configuration_by_hand_has_relative_paths_and_its_store_is_in_the_root(
    linked_board: LinkedBoard,
) -> None:
    linked_board.flash()
    board = linked_board.board
    settings = json.loads(board.files()["config.json"])
    settings["store"] = "own"
    settings["vault"]["key_file"] = "vault-key"
    board.put("config.json", json.dumps(settings).encode())
    board.start_module()
    with BoardBench(Boards(linked_board.data).find(None, [])) as bench:
        assert bench.status()["vault"] == "link"
    assert "own/contracts" in board.files()


def test_stm32_as_delivered_answers_from_fat_and_its_car_is_erased_with_its_slots(
    linked_board_with_fat: LinkedBoard,
) -> None:
    record = Record()
    assert linked_board_with_fat.flash(record)["board"]["file_system"] == "FAT"
    (warning,) = record.warnings
    assert "FAT, which a power cut can damage in the flash of an STM32" in warning
    assert f"mpremote connect {UID} exec" in warning
    linked_board_with_fat.command("provision")
    result = linked_board_with_fat.flash(erase_car=True)
    assert {"/flash/store/identity.a", "/flash/store/contracts.a"} <= set(result["car"]["files"])
    assert result["car"]["keys"] == 1
    assert not result["status"]["certified"]
