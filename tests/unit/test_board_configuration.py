"""config.json of a board: valid by the module's own checks, with a UART that the board has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from evcc import config
from fixtures.unix_board import PICO
from plugvault.board import configuration
from plugvault.board.configuration import BoardUart
from plugvault.board.errors import DeviceError

MAKER = b"\x04" + bytes(64)


def test_configuration_passes_the_checks_of_the_module() -> None:
    data = configuration.make(BoardUart(1, 4, 5), PICO.uid, MAKER)
    settings = config.parse(data)
    assert settings["link"] == {"kind": "uart", "number": 1, "baud": 115200, "tx": 4, "rx": 5}
    assert settings["vault"] == {"kind": "link", "name": PICO.uid, "key_file": "/vault-key"}
    assert settings["maker"] == MAKER


def test_pins_of_the_port_itself_are_left_out() -> None:
    settings = json.loads(configuration.make(BoardUart(6), PICO.uid, MAKER))
    assert settings["link"] == {"kind": "uart", "number": 6, "baud": 115200}


@pytest.mark.parametrize(
    "platform, machine, link",
    [
        ("rp2", "Raspberry Pi Pico with RP2040", BoardUart(1, 4, 5)),
        ("rp2", "Raspberry Pi Pico2 with RP2350", BoardUart(1, 4, 5)),
        ("esp32", "Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", BoardUart(1, 17, 18)),
        ("esp32", "Generic ESP32 module with ESP32", BoardUart(1, 17, 18)),
        ("pyboard", "PYBv1.1 with STM32F405RG", BoardUart(6)),
        ("mimxrt", "Teensy 4.0 with MIMXRT1062DVJ6A", None),
    ],
)
def test_link_has_pins_for_each_kind_of_board(
    platform: str, machine: str, link: BoardUart | None
) -> None:
    described = dataclasses.replace(PICO, platform=platform, machine=machine)
    assert configuration.default_link(described) == link


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b'{"link": {"kind": "uart", "number": 1}}', "missing"),
        (b"\xff", "UTF-8"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(DeviceError, match="config") as caught:
        configuration.of_file(path)
    assert words in caught.value.detail


def test_link_that_no_board_has_is_refused(tmp_path: Path) -> None:
    settings = json.loads(configuration.make(BoardUart(1), PICO.uid, MAKER))
    settings["link"] = {"kind": "tty", "path": "/dev/ttyS0"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(DeviceError, match="uart"):
        configuration.of_file(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="config"):
        configuration.of_file(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "04", "05" + "00" * 64, "04" + "0g" * 64, "04" * 66])
def test_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="--maker"):
        configuration.maker_key(text)
    assert configuration.maker_key(MAKER.hex()) == MAKER


@pytest.mark.parametrize("vault", [{"name": "car"}, {"key_file": "/other"}])
def test_vault_that_would_not_answer_the_board_is_refused(vault: dict[str, str]) -> None:
    settings = json.loads(configuration.make(BoardUart(1), PICO.uid, MAKER))
    settings["vault"].update(vault)
    with pytest.raises(DeviceError, match=f"name and key_file are {PICO.uid} and /vault-key"):
        configuration.completed(json.dumps(settings).encode(), PICO.uid, "/")


def test_vault_of_the_board_itself_and_one_in_the_network_stay_as_they_are() -> None:
    own = configuration.make(BoardUart(1), PICO.uid, MAKER, "/flash/")
    relative = own.replace(b"/flash/", b"")
    settings = json.loads(own)
    settings["vault"] = {
        "kind": "service", "host": "h", "port": 1, "name": "car", "key_file": "/flash/key"
    }  # fmt: skip
    for data in (own, relative, json.dumps(settings).encode()):
        assert configuration.completed(data, PICO.uid, "/flash/") == data


def test_store_outside_of_the_boards_files_is_refused() -> None:
    data = configuration.make(BoardUart(1), PICO.uid, MAKER)
    with pytest.raises(DeviceError, match="files are in /flash/, and /store is not"):
        configuration.completed(data, PICO.uid, "/flash/")
