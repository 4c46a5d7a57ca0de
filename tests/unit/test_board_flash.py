"""The refusals of `flash` before it writes, and the board after them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evcc.vault import VaultError
from fixtures.firmware_files import RP2040, uf2
from fixtures.flashing import Record
from fixtures.unix_board import PICO, UID, UnixBoard
from plugvault.board import bytecode, configuration, copying, erasure, facts, firmware, ports
from plugvault.board import flash as flash_module
from plugvault.board.configuration import BoardUart
from plugvault.board.errors import DeviceError
from plugvault.board.firmware import Image
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Board, Boards
from plugvault.board.ports import BRIDGE, PROMPT, SerialPort
from plugvault.board.ports import OTHER as OTHER_KIND

MAKER, OTHER = b"\x04" + bytes(64), b"\x04" + bytes([1]) * 64
UART = BoardUart(1, 4, 5)


class Refusing(Record):
    """A user who says no."""

    def agree(self, question: str) -> bool:
        super().agree(question)
        return False


def flash(board: UnixBoard, tmp_path: Path, record: Record, **wishes: object) -> dict[str, Any]:
    """The record of one run."""
    chosen = Wishes(port="unix://prompt", link="unix://link", uart=UART, maker=MAKER)
    chosen = dataclasses.replace(chosen, **wishes)  # type: ignore[arg-type]
    boards = Boards(tmp_path / "data")
    with Flash(boards, chosen, record, lambda device, soft_reset: board.repl()) as run:
        run.run()
    return run.result


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


def recorded_link(tmp_path: Path, link: str, **fields: str) -> Boards:
    """The folder of a board whose link is recorded."""
    boards = Boards(tmp_path / "data")
    boards.make(dataclasses.replace(PICO, uid=UID)).save(link=link, **fields)
    return boards


@pytest.mark.parametrize("link", ["/dev/null", "/dev/../dev/null"])
def test_one_port_as_prompt_and_link_is_refused_before_the_board_is_touched(
    unix_board: UnixBoard, tmp_path: Path, link: str
) -> None:
    for wishes in ({}, {"firmware": tmp_path / "pico.uf2"}):
        with pytest.raises(DeviceError, match=r"one port, .*`plugvault flash PROMPT --link LINK`"):
            flash(unix_board, tmp_path, Record(), port="/dev/null", link=link, **wishes)
    assert unix_board.transports == []
    assert not (tmp_path / "data").exists()


def test_link_that_is_the_only_port_of_a_prompt_is_refused_before_the_board_is_touched(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pico = SerialPort("/dev/null", PROMPT, "MicroPython", "E661", 0x2E8A)
    monkeypatch.setattr(ports, "find", lambda: [pico])
    with pytest.raises(DeviceError, match="one port"):
        flash(unix_board, tmp_path, Record(), port=None, link="/dev/null")
    assert unix_board.transports == []


def test_recorded_link_that_is_the_boards_prompt_now_is_refused_before_anything_is_written(
    unix_board: UnixBoard, tmp_path: Path, softhsm: Path
) -> None:
    boards = recorded_link(tmp_path, "unix://prompt", prompt="unix://before")
    before = unix_board.files()
    with pytest.raises(DeviceError, match="one port"):
        flash(unix_board, tmp_path, Record(), link=None)
    assert unix_board.files() == before
    assert [board.prompt for board in boards.all()] == ["unix://before"]


def test_link_replaces_the_recorded_one_only_after_the_modules_answer(
    unanswered: None, unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = recorded_link(tmp_path, "unix://before")
    answering = flash_module.BoardBench

    def silent(board: Board) -> None:
        assert board.link == "unix://link"
        raise DeviceError("silent", "no answer")

    monkeypatch.setattr(flash_module, "BoardBench", silent)
    with pytest.raises(DeviceError, match="silent"):
        flash(unix_board, tmp_path, Record())
    assert [board.link for board in boards.all()] == ["unix://before"]
    monkeypatch.setattr(flash_module, "BoardBench", answering)
    flash(unix_board, tmp_path, Record())
    assert [board.link for board in boards.all()] == ["unix://link"]


class Interrupting(Record):
    """A user who presses Ctrl-C at a step, a wait or a file of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(self._press)
        self._name = name

    def _press(self, name: str) -> None:
        if name == self._name:
            raise KeyboardInterrupt

    def step(self, name: str, text: str) -> None:
        super().step(name, text)
        self._press(name)


FILES = {"boot.py": b"boot", "main.py": b"main", "switch.py": b"switch"}


@pytest.mark.usefixtures("unanswered")
@pytest.mark.parametrize(
    "name, left",
    [
        ("board", "nothing was changed on the board; the same command begins again"),
        (
            "boot.py",
            "the board runs what it had before; the same command copies the rest",
        ),
        ("copied", "the new files are on the board; the same command does the rest"),
        ("answer", "the new files are on the board; the same command does the rest"),
    ],
)
def test_interrupted_user_is_told_the_state_of_the_board_and_the_next_step(
    name: str,
    left: str,
    unix_board: UnixBoard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bytecode, "module", lambda facts: FILES)
    record = Interrupting(name)
    with pytest.raises(KeyboardInterrupt):
        flash(unix_board, tmp_path, record)
    assert record.warnings == [f"interrupted: {left}"]
    is_copied = name in ("copied", "answer")
    assert (unix_board.files().get("main.py") == b"main") == is_copied


@pytest.mark.usefixtures("unanswered")
def test_user_who_interrupts_after_the_last_file_is_told_of_both_possible_states(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    record = Interrupting("vault-key")
    with pytest.raises(KeyboardInterrupt):
        flash(unix_board, tmp_path, record)
    assert record.warnings == [f"interrupted: {flash_module._SWITCHING}"]


@pytest.mark.usefixtures("unanswered")
def test_user_who_interrupts_before_a_file_is_copied_is_told_what_is_to_come(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copying.copy
    for left, name in ((flash_module._COPYING, "vault-key"), (flash_module._SWITCHING, "")):
        monkeypatch.setattr(copying, "copy", interrupt)
        record = Record()
        with pytest.raises(KeyboardInterrupt):
            flash(unix_board, tmp_path, record)
        assert record.warnings == [f"interrupted: {left}"]
        if name:  # the second run has nothing to copy
            monkeypatch.setattr(copying, "copy", copy)
            with pytest.raises(KeyboardInterrupt):
                flash(unix_board, tmp_path, Interrupting(name))


def interrupt(*arguments: object) -> None:
    """The user presses Ctrl-C during this call."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("is_written", [False, True])
def test_interrupted_user_is_not_told_that_a_board_with_new_firmware_is_unchanged(
    is_written: bool, unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = SerialPort("unix://prompt", OTHER_KIND, "")
    writer = SimpleNamespace(check=lambda: SimpleNamespace(chip="RP2040"), write=interrupt)
    if is_written:
        writer.write = lambda image: port
    monkeypatch.setattr(flash_module, "MicroPython", lambda *arguments: writer)
    record = Interrupting("board")
    with pytest.raises(KeyboardInterrupt):
        flash(unix_board, tmp_path, record, firmware=tmp_path / "pico.uf2")
    left = [f"interrupted: {flash_module._FIRMWARE}"] if is_written else []
    assert record.warnings == left


@pytest.mark.usefixtures("unanswered")
def test_files_of_an_interrupted_copy_are_counted_by_themselves(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "module", lambda facts: FILES)
    with pytest.raises(KeyboardInterrupt):
        flash(unix_board, tmp_path, Interrupting("boot.py"))
    texts: list[str] = []
    record = Record()
    monkeypatch.setattr(record, "step", lambda name, text: texts.append(text))
    flash(unix_board, tmp_path, record)
    (text,) = [text for text in texts if "to copy" in text]
    assert text.startswith("4 to copy (")
    assert text.endswith(", 0 to remove, 0 are there already, 1 from an interrupted copy")


@pytest.mark.usefixtures("unanswered")
@pytest.mark.parametrize(
    "status, next_step",
    [
        ({"certified": False}, "provision"),
        ({"certified": True, "pcid": "WVWPOTHER", "contracts": []}, "provision"),
        ({"certified": True, "pcid": "WVWPOWN", "contracts": []}, "install"),
        ({"certified": True, "pcid": "WVWPOWN", "contracts": [{}]}, "authorize"),
    ],
)
def test_next_step_is_the_first_one_that_the_car_lacks(
    status: dict[str, Any],
    next_step: str,
    unix_board: UnixBoard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextlib.contextmanager
    def bench(board: Board) -> Iterator[Any]:
        yield SimpleNamespace(status=lambda: {"runtime": "micropython", **status})

    recorded_link(tmp_path, "unix://link", pcid="WVWPOWN")
    monkeypatch.setattr(flash_module, "BoardBench", bench)
    chosen = Wishes(port="unix://prompt", link="unix://link", uart=UART, maker=MAKER)
    opened = lambda device, soft_reset: unix_board.repl()  # noqa: E731
    with Flash(Boards(tmp_path / "data"), chosen, Record(), opened) as run:
        run.run()
    assert run.next_step == next_step


def test_user_who_does_not_agree_to_erase_ends_the_command_before_the_board_is_touched(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    record = Refusing()
    with pytest.raises(DeviceError, match="nothing was erased"):
        flash(unix_board, tmp_path, record, erase_contracts=True)
    assert len(record.questions) == 1
    assert unix_board.transports == []


@pytest.fixture
def own_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ecosystem in the folder of the boards has `MAKER`."""

    @contextlib.contextmanager
    def ecosystem(data: Path) -> Iterator[Any]:
        yield SimpleNamespace(telematics_key=SimpleNamespace(point=MAKER))

    monkeypatch.setattr(flash_module, "ecosystem", ecosystem)


def configured(tmp_path: Path, maker: bytes, store: str) -> Path:
    """A config.json that the user wrote."""
    file = tmp_path / "config.json"
    file.write_bytes(configuration.make(UART, UID, maker, store=store))
    return file


@pytest.mark.usefixtures("own_maker")
@pytest.mark.parametrize("is_configured", [False, True])
def test_contracts_are_not_erased_without_the_key_of_the_boards_maker_and_nothing_is_flashed(
    is_configured: bool, unix_board: UnixBoard, tmp_path: Path
) -> None:
    wishes: dict[str, Any] = {"maker": OTHER}
    if is_configured:
        wishes = {"maker": None, "config": configured(tmp_path, OTHER, "store")}
    with pytest.raises(DeviceError, match="has another key: nothing was erased"):
        flash(unix_board, tmp_path, Record(), erase_contracts=True, **wishes)
    assert unix_board.transports == []


@pytest.mark.usefixtures("own_maker", "softhsm")
def test_contracts_are_removed_by_the_maker_and_no_file_of_a_store_is_touched(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board's own configuration names its store, and the module there knows its files."""
    requests: list[str] = []

    class Maker:
        def __init__(self, *arguments: object) -> None:
            pass

        def set_time(self) -> None:
            requests.append("set_time")

        def erase_contracts(self) -> list[str]:
            requests.append("erase_contracts")
            return ["DEPVAC59KZ6LZPZ"]

    @contextlib.contextmanager
    def bench(board: object) -> Iterator[Any]:
        yield SimpleNamespace(status=lambda: {"runtime": "micropython", "certified": False})

    monkeypatch.setattr(flash_module, "BoardMaker", Maker)
    monkeypatch.setattr(flash_module, "BoardBench", bench)
    monkeypatch.setattr(bytecode, "module", lambda facts: {"main.py": b"new"})
    monkeypatch.setattr(flash_module, "_CLOCK", "%d")
    stores = {
        "store/contracts": b"index",
        "store/chain-00": b"chain",
        "other/contracts.a": b"slot",
    }
    with unix_board.repl() as repl:
        repl.run("import os\nos.mkdir('/store')\nos.mkdir('/other')")
    for path, data in stores.items():
        unix_board.put(path, data)
    config = configured(tmp_path, MAKER, "other")
    flash(
        unix_board,
        tmp_path,
        Record(),
        uart=None,
        maker=None,
        config=config,
        erase_contracts=True,
    )
    assert requests == ["set_time", "erase_contracts"]
    assert [board.maker for board in Boards(tmp_path / "data").all()] == [MAKER.hex()]
    files = unix_board.files()
    assert {path: files.get(path) for path in stores} == stores


@pytest.mark.usefixtures("own_maker")
def test_dry_run_asks_nothing_about_contracts(unix_board: UnixBoard, tmp_path: Path) -> None:
    record = Refusing()
    flash(unix_board, tmp_path, record, dry_run=True, erase_contracts=True)
    assert record.questions == []


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


def test_refused_maker_and_the_speed_of_its_link_are_not_recorded_here(
    unix_board: UnixBoard, tmp_path: Path, softhsm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "module", lambda facts: {"main.py": b"new"})
    boards = Boards(tmp_path / "data")
    known = boards.make(PICO).save(maker=OTHER.hex(), baud=9600)
    unix_board.put("config.json", configuration.make(UART, known.uid, OTHER))
    with pytest.raises(DeviceError, match="keeps its maker"):
        flash(unix_board, tmp_path, Refusing())
    recorded = boards.get(known.uid)
    assert recorded is not None
    assert (recorded.maker, recorded.baud) == (OTHER.hex(), 9600)


@pytest.mark.parametrize(
    "change, machine",
    [
        ({"name": "circuitpython", "machine": "Raspberry Pi Pico with rp2040", "uid": ""}, ""),
        ({"version": (1, 19, 1), "uid": ""}, PICO.machine),
    ],
)
def test_firmware_is_compared_with_the_description_that_micropython_gives(
    change: dict[str, Any],
    machine: str,
    unix_board: UnixBoard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described = dataclasses.replace(PICO, **change)
    compared: list[str] = []
    monkeypatch.setattr(facts, "ask", lambda repl: described)
    monkeypatch.setattr(firmware, "read", lambda path: Image(path, "uf2", "RP2040"))
    monkeypatch.setattr(firmware, "check", lambda image, machine: compared.append(machine))
    with contextlib.suppress(DeviceError):
        flash(unix_board, tmp_path, Record(), dry_run=True, firmware=tmp_path / "new.uf2")
    assert compared == [machine]


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
    assert [text.split(" ")[0] for text in record.begun] == ["asking", "comparing"]
    assert unix_board.flash.read_bytes() == before
    assert not (tmp_path / "data").exists()


def test_user_who_does_not_agree_to_erase_the_car_keeps_it(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    record = Refusing()
    with pytest.raises(DeviceError, match="nothing was erased"):
        flash(unix_board, tmp_path, record, erase_car=True)
    assert record.questions == [flash_module._ERASE_CAR]
    assert unix_board.transports == []


def test_dry_run_lists_the_files_of_the_car_in_the_configured_store_and_erases_none(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    with unix_board.repl() as repl:
        repl.run("import os\nos.mkdir('own')")
    unix_board.put("own/identity", b"x")
    before = unix_board.files()
    record = Refusing()
    config = configured(tmp_path, MAKER, "own")
    wishes = {"uart": None, "maker": None, "config": config, "dry_run": True}
    result = flash(unix_board, tmp_path, record, erase_car=True, **wishes)
    assert result["car"] == {"files": ["/own/identity"]}
    assert record.questions == []
    assert unix_board.files() == before


def test_dry_run_with_firmware_ends_before_the_old_one_is_judged(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "OLDEST", (9, 0))
    monkeypatch.setattr(firmware, "check", lambda image, machine: None)
    path = tmp_path / "pico.uf2"
    path.write_bytes(uf2(RP2040))
    record = Record()
    flash(unix_board, tmp_path, record, dry_run=True, firmware=path)
    assert record.steps == ["firmware", "dry run"]
    assert len(unix_board.transports) == 1  # its description, for the comparison with the file


class Choosing(Record):
    """A user at a terminal, who names the port."""

    def choose_port(self, question: str, found: list[SerialPort]) -> str | None:
        self.questions.append(question)
        return found[-1].device


@pytest.mark.parametrize("chooses", [False, True])
def test_board_with_unknown_usb_numbers_is_asked_for(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chooses: bool
) -> None:
    feather = SerialPort("/dev/null", OTHER_KIND, "Feather 239A:80F2", "DF61", 0x239A)
    adapter = SerialPort("/dev/zero", BRIDGE, "CP210x bridge", "0001", 0x10C4)
    monkeypatch.setattr(ports, "find", lambda: [adapter, feather])
    record = Choosing() if chooses else Record()
    if chooses:
        flash(unix_board, tmp_path, record, port=None, dry_run=True)
        assert record.questions == ["Which port is the board's prompt?"]
        assert "asking /dev/null" in record.begun[0]
        return
    with pytest.raises(DeviceError, match=r"/dev/zero .*; /dev/null \(Feather"):
        flash(unix_board, tmp_path, record, port=None, dry_run=True)
    assert unix_board.transports == []


class Knowing(Record):
    """A user who knows a free UART of the board."""

    def choose_uart(self, question: str) -> BoardUart | None:
        super().choose_uart(question)
        return BoardUart(3, 8, 9)


@pytest.fixture
def unanswered(monkeypatch: pytest.MonkeyPatch, softhsm: Path) -> None:
    """The module is one file, and its answer is not waited for."""

    @contextlib.contextmanager
    def bench(board: object) -> Iterator[Any]:
        yield SimpleNamespace(status=lambda: {"runtime": "micropython", "certified": False})

    monkeypatch.setattr(flash_module, "BoardBench", bench)
    monkeypatch.setattr(bytecode, "module", lambda facts: {"main.py": b"new"})
    monkeypatch.setattr(flash_module, "_CLOCK", "%d")


@pytest.mark.usefixtures("unanswered")
def test_uart_of_an_unknown_kind_of_board_is_asked_for_once_and_has_the_speed_of_the_option(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    record = Knowing()
    flash(unix_board, tmp_path, record, uart=None, baud=9600)
    (question,) = record.questions
    assert question.startswith("Which UART of ")
    settings = json.loads(unix_board.files()["config.json"])
    assert settings["link"] == {"kind": "uart", "number": 3, "baud": 9600, "tx": 8, "rx": 9}
    assert [board.baud for board in Boards(tmp_path / "data").all()] == [9600]


@pytest.mark.usefixtures("softhsm")
def test_unknown_uart_is_an_error_without_an_answer_and_nothing_is_written(
    unix_board: UnixBoard, tmp_path: Path
) -> None:
    before = unix_board.files()
    with pytest.raises(DeviceError, match=r"config: Which UART of .*--uart NUMBER"):
        flash(unix_board, tmp_path, Record(), uart=None)
    assert unix_board.files() == before


@pytest.mark.usefixtures("unanswered")
def test_known_kind_of_board_has_the_speed_of_the_option(stm32: UnixBoard, tmp_path: Path) -> None:
    flash(stm32, tmp_path, Record(), uart=None, baud=9600)
    settings = json.loads(stm32.files()["config.json"])
    assert settings["link"] == {"kind": "uart", "number": 6, "baud": 9600}


@pytest.mark.usefixtures("unanswered")
def test_configuration_of_the_user_gets_the_name_and_key_file_of_the_boards_vault(
    any_board: UnixBoard, tmp_path: Path
) -> None:
    file = configured(tmp_path, MAKER, "store")
    settings = json.loads(file.read_text())
    settings["vault"], settings["store"] = {"kind": "link"}, "own"
    file.write_text(json.dumps(settings))
    result = flash(any_board, tmp_path, Record(), uart=None, maker=None, config=file)
    files, root = any_board.files(), result["board"]["root"]
    vault = {"kind": "link", "name": UID, "key_file": f"{root}vault-key"}
    assert json.loads(files["config.json"]) == {**settings, "vault": vault}
    assert [board.key.encode() for board in Boards(tmp_path / "data").all()] == [
        files["vault-key"]
    ]


@pytest.mark.usefixtures("unanswered")
def test_maker_that_the_board_has_now_is_recorded_though_its_car_could_not_be_erased(
    unix_board: UnixBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> int:
        raise VaultError("token-missing")

    unix_board.put("config.json", configuration.make(UART, UID, OTHER))
    monkeypatch.setattr(erasure, "erase", fail)
    with pytest.raises(VaultError, match="token-missing"):
        flash(unix_board, tmp_path, Record(), erase_car=True)
    assert configuration.read(unix_board.files()["config.json"])["maker"] == MAKER
    (board,) = Boards(tmp_path / "data").all()
    assert board.maker == MAKER.hex()
