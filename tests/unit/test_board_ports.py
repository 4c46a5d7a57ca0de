"""Which serial port leads to a board, and why one cannot be opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugvault.board import ports
from plugvault.board.errors import DeviceError
from plugvault.board.ports import BRIDGE, OTHER, PROMPT, SerialPort

PICO = SerialPort("/dev/ttyACM0", PROMPT, "MicroPython on RP2040 or RP2350", "E661", 0x2E8A)
SECOND = SerialPort("/dev/ttyACM1", PROMPT, "MicroPython on RP2040 or RP2350", "E662", 0x2E8A)
ADAPTER = SerialPort("/dev/ttyUSB0", BRIDGE, "CP210x bridge", "0001", 0x10C4)
OTHER_ADAPTER = SerialPort("/dev/ttyUSB1", BRIDGE, "FTDI bridge", "0002", 0x0403)
PHONE = SerialPort("/dev/ttyACM7", OTHER, "a modem", "", 0x1234)


def test_only_board_is_chosen_beside_adapters_and_other_devices() -> None:
    assert ports.choose_prompt(None, [ADAPTER, PHONE, PICO]) == PICO


def test_only_bridge_is_chosen_where_no_port_says_micropython() -> None:
    assert ports.choose_prompt(None, [PHONE, ADAPTER]) == ADAPTER


@pytest.mark.parametrize("found", [[PICO, SECOND], [ADAPTER, OTHER_ADAPTER]])
def test_two_boards_are_a_choice_of_the_user(found: list[SerialPort]) -> None:
    with pytest.raises(DeviceError, match="port: several") as caught:
        ports.choose_prompt(None, found)
    assert all(port.device in caught.value.detail for port in found)
    assert ports.choose_prompt(found[1].device, found) == found[1]


@pytest.mark.parametrize("found", [[], [PHONE]])
def test_no_board_is_an_error_that_says_what_to_do(found: list[SerialPort]) -> None:
    with pytest.raises(DeviceError, match="data cable"):
        ports.choose_prompt(None, found)


def test_port_that_is_not_there_is_refused_with_the_list_of_ports() -> None:
    with pytest.raises(DeviceError, match="/dev/ttyACM0") as caught:
        ports.choose_prompt("/dev/none", [PICO])
    assert caught.value.reason == "port"


def test_symbolic_link_names_the_same_port(tmp_path: Path) -> None:
    by_id = tmp_path / "usb-board"
    by_id.symlink_to("/dev/null")
    device = SerialPort("/dev/null", PROMPT, "", "E661")
    assert ports.choose_prompt(str(by_id), [device]) == device


def test_link_is_the_only_bridge_besides_the_prompt() -> None:
    assert ports.choose_link(None, [PICO, ADAPTER], PICO.device) == ADAPTER.device
    assert ports.choose_link(None, [ADAPTER, OTHER_ADAPTER], ADAPTER.device) == "/dev/ttyUSB1"
    assert ports.choose_link(None, [PICO], PICO.device) is None
    assert ports.choose_link(None, [PICO, ADAPTER, OTHER_ADAPTER], PICO.device) is None


def test_board_is_found_again_under_another_name() -> None:
    assert ports.with_serial_number("E662", [PICO, SECOND]) == SECOND
    assert ports.with_serial_number("", [PHONE]) is None


def test_error_of_a_port_in_use_names_the_program() -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    script = f"import sys; port = open({name!r}, 'rb', 0); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        os.close(slave)
        error = ports.explain_refusal(name)
        comm = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        holder.communicate(b"\n")
    os.close(master)
    assert error.reason == "busy"
    assert comm in error.detail


def test_error_of_a_forbidden_port_names_its_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = tmp_path / "ttyACM0"
    device.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    error = ports.explain_refusal(str(device))
    assert error.reason == "permission"
    assert f"usermod -a -G {device.group()} $USER" in error.detail


def test_missing_port_is_gone() -> None:
    assert ports.explain_refusal("/dev/none").reason == "gone"
