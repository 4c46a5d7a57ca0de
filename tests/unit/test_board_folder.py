"""The boards that this computer knows: private, one command at a time, found by any name."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import pytest

from fixtures.unix_board import PICO
from plugvault.board.errors import DeviceError
from plugvault.board.folder import Board, Boards
from plugvault.board.ports import BRIDGE, PROMPT, SerialPort


@pytest.fixture
def boards(tmp_path: Path, softhsm: Path, monkeypatch: pytest.MonkeyPatch) -> Boards:
    monkeypatch.delenv("PLUGVAULT_CONFIG", raising=False)
    monkeypatch.delenv("PLUGVAULT_TOKEN", raising=False)
    return Boards(tmp_path / "data")


def other(boards: Boards) -> Board:
    return boards.make(dataclasses.replace(PICO, uid="aabbccdd"))


def test_board_has_a_token_and_a_key_of_its_own(boards: Boards) -> None:
    first, second = boards.make(PICO), other(boards)
    assert first.key != second.key
    assert first.pin != second.pin
    vault = first.configuration().open()
    assert vault.keys() == []
    vault.close()


def test_board_is_the_same_one_after_a_second_flash(boards: Boards) -> None:
    first = boards.make(PICO)
    assert boards.make(PICO) == first
    assert boards.all() == [first]


def test_files_with_secrets_are_for_their_owner_alone(boards: Boards) -> None:
    board = boards.make(PICO)
    for path in (boards.data, board.folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((board.folder / "board.json").stat().st_mode) == 0o600


def test_secrets_are_in_no_text_of_a_board(boards: Boards) -> None:
    board = boards.make(PICO)
    assert board.key not in repr(board)
    assert board.pin not in repr(board)


def test_second_command_on_a_board_is_refused(boards: Boards) -> None:
    board = boards.make(PICO)
    with board.locked(), pytest.raises(DeviceError, match="another command"), board.locked():
        pass
    with board.locked():
        pass


def test_board_is_found_by_its_ports_and_its_number(boards: Boards) -> None:
    board = boards.make(PICO).save(prompt="unix://prompt", link="unix://link")
    other(boards)
    for name in ("unix://prompt", "unix://link", board.uid):
        assert boards.find(name, []).uid == board.uid


def test_only_board_needs_no_name_and_two_do(boards: Boards) -> None:
    with pytest.raises(DeviceError, match="plugvault flash"):
        boards.find(None, [])
    board = boards.make(PICO)
    assert boards.find(None, []) == board
    other(boards)
    with pytest.raises(DeviceError, match=f"several boards.*{board.uid}"):
        boards.find(None, [])


def test_unknown_port_is_told_to_be_flashed_first(boards: Boards) -> None:
    boards.make(PICO)
    with pytest.raises(DeviceError, match="plugvault flash unix://new"):
        boards.find("unix://new", [])


def test_ports_are_found_again_under_other_names(boards: Boards) -> None:
    boards.make(PICO).save(
        prompt="/dev/ttyACM0", serial_number="E661", link="/dev/ttyUSB0", link_number="0001"
    )
    found = [
        SerialPort("/dev/ttyACM5", PROMPT, "", "E661"),
        SerialPort("/dev/ttyUSB7", BRIDGE, "", "0001"),
    ]
    board = boards.find(None, found)
    assert (board.prompt, board.link) == ("/dev/ttyACM5", "/dev/ttyUSB7")


@pytest.mark.parametrize(
    "change",
    [
        {"key": "00"},
        {"key": 7},
        {"key": "zz" * 32},
        {"uid": "ffff"},
        {"color": "red"},
        {"folder": "/"},
        {"link": 5},
        {"baud": "fast"},
        {"baud": True},
        {"location": {}},
        {"location": {"module": "m", "label": 1}},
        {"location": []},
    ],
)
def test_file_with_wrong_fields_is_refused_with_its_path_and_a_remedy(
    boards: Boards, change: dict[str, object]
) -> None:
    file = boards.make(PICO).folder / "board.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DeviceError) as refusal:
        boards.all()
    assert refusal.value.detail == f"{file} {WRONG}"


WRONG = (
    "is damaged, or of no known plugvault. Use the plugvault that wrote it, or another --data"
    " folder"
)


@pytest.mark.parametrize("text", ["[1]", '{"nope": 1}', "{}", "null", "3"])
def test_file_of_another_form_is_refused_without_words_of_python(
    boards: Boards, text: str
) -> None:
    file = boards.make(PICO).folder / "board.json"
    file.write_text(text)
    with pytest.raises(DeviceError) as refusal:
        boards.all()
    assert (refusal.value.reason, refusal.value.detail) == ("state", f"{file} {WRONG}")


def test_file_that_is_no_json_or_cannot_be_read_is_refused_with_the_cause(boards: Boards) -> None:
    file = boards.make(PICO).folder / "board.json"
    file.write_text("{")
    with pytest.raises(DeviceError, match=rf"{file}: not JSON: .*\. Use the plugvault"):
        boards.all()
    file.unlink()
    file.mkdir()
    with pytest.raises(DeviceError) as refusal:
        boards.all()
    assert refusal.value.detail == f"{file}: Is a directory"


@pytest.mark.parametrize("uid", ["", "..", "a/b", "E661"])
def test_number_that_is_no_folder_name_is_refused(boards: Boards, uid: str) -> None:
    with pytest.raises(DeviceError, match="state"):
        boards.get(uid)


def test_another_token_than_before_is_refused(
    boards: Boards, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The board's keys stay in the first one."""
    first = boards.make(PICO)
    location = first.configuration().location
    monkeypatch.setenv("PLUGVAULT_TOKEN", location.label)
    monkeypatch.setenv("PLUGVAULT_MODULE", str(location.module))
    monkeypatch.setenv("SOFTHSM2_CONF", str(location.conf))
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(first.pin)
    monkeypatch.setenv("PLUGVAULT_PIN", f"file:{pin}")
    with pytest.raises(DeviceError, match="a token made here"):
        boards.make(PICO)
    second = other(boards)
    assert second.pin == ""
    assert second.configuration().location.label == location.label


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
    file = tmp_path / "chain.pem"
    file.write_text("")
    with pytest.raises(DeviceError, match="is a file: name a folder"):
        Boards(file).all()
