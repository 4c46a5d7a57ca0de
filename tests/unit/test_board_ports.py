"""Which serial port leads to a board, and why one cannot be opened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from plugvault.board import ports
from plugvault.board.errors import DeviceError
from plugvault.board.ports import BRIDGE, DOWNLOAD, OTHER, PROMPT, SerialPort

PICO = SerialPort("/dev/ttyACM0", PROMPT, "MicroPython on RP2040 or RP2350", "E661", 0x2E8A)
SECOND = SerialPort("/dev/ttyACM1", PROMPT, "MicroPython on RP2040 or RP2350", "E662", 0x2E8A)
ADAPTER = SerialPort("/dev/ttyUSB0", BRIDGE, "CP210x bridge", "0001", 0x10C4)
OTHER_ADAPTER = SerialPort("/dev/ttyUSB1", BRIDGE, "FTDI bridge", "0002", 0x0403)
FEATHER = SerialPort("/dev/ttyACM2", OTHER, "Adafruit Feather 239A:80F2", "DF61", 0x239A)
WAITING = SerialPort("/dev/ttyACM3", DOWNLOAD, "ESP32-S2 in download mode", "0", 0x303A)
PHONE = SerialPort("/dev/ttyACM7", OTHER, "a modem", "", 0x1234)


def test_only_board_is_chosen_beside_adapters_and_other_devices() -> None:
    assert ports.choose_prompt(None, [ADAPTER, PHONE, PICO]) == PICO


def test_only_bridge_is_chosen_where_every_port_is_known() -> None:
    assert ports.choose_prompt(None, [ADAPTER]) == ADAPTER


@pytest.mark.parametrize(
    "found",
    [
        [PICO, SECOND],
        [PICO, SECOND, ADAPTER],
        [ADAPTER, OTHER_ADAPTER],
        [FEATHER, ADAPTER],
        [FEATHER],
        [FEATHER, PHONE, ADAPTER],
        [WAITING, ADAPTER],
    ],
)
def test_board_that_cannot_be_told_is_a_choice_of_the_user_from_all_ports(
    found: list[SerialPort],
) -> None:
    with pytest.raises(DeviceError, match=r"^port: ") as caught:
        ports.choose_prompt(None, found)
    for port in found:
        assert f"{port.device} ({port.description})" in caught.value.detail
        assert ports.choose_prompt(port.device, found) == port


def test_no_board_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="data cable"):
        ports.choose_prompt(None, [])


def test_esp_in_download_mode_is_told_with_what_starts_it() -> None:
    with pytest.raises(DeviceError, match="press RESET"):
        ports.choose_prompt(None, [WAITING])


def usb(device: str, vid: int | None, pid: int | None, *texts: str | None) -> Listed:
    """A port as pyserial lists it."""
    manufacturer, product, number = texts
    return Listed(
        device=device,
        vid=vid,
        pid=pid,
        manufacturer=manufacturer,
        product=product,
        serial_number=number,
    )


class Listed(SimpleNamespace):
    """pyserial's ports have an order."""

    def __lt__(self, other: SimpleNamespace) -> bool:
        return bool(self.device < other.device)


def test_usb_numbers_tell_boards_and_bridges_and_everything_else_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = [
        usb("/dev/ttyS0", None, None, None, None, None),
        usb("/dev/ttyACM0", 0x2E8A, 0x0005, "MicroPython", "Board in FS mode", "E661"),
        usb("/dev/ttyACM1", 0x2E8A, 0x000C, "Raspberry Pi", "Debug Probe", "E662"),
        usb("/dev/ttyACM2", 0x239A, 0x80F2, "Adafruit", "Feather RP2040", "DF61"),
        usb("/dev/ttyACM3", 0x1B4F, 0x0026, None, None, None),
        usb("/dev/ttyACM4", 0x303A, 0x0002, None, "ESP32-S2", "0"),
        usb("/dev/ttyACM5", 0x303A, 0x1001, "Espressif", "USB JTAG", "F4:12:FA:00:00:01"),
        usb("/dev/ttyACM6", 0x0483, 0x374B, "STMicroelectronics", "STM32 STLink", "0671"),
        usb("/dev/ttyACM7", 0x0483, 0x5740, "STMicroelectronics", "Virtual COM Port", "3571"),
        usb("/dev/ttyUSB0", 0x10C4, 0xEA60, "Silicon Labs", "CP2102", "0001"),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: listed)
    assert [(port.device[8:], port.kind, port.description) for port in ports.find()] == [
        ("ACM0", PROMPT, "MicroPython on RP2040 or RP2350"),
        ("ACM1", BRIDGE, "Raspberry Pi Debug Probe"),
        ("ACM2", OTHER, "Adafruit Feather RP2040 239A:80F2"),
        ("ACM3", OTHER, "USB device 1B4F:0026"),
        ("ACM4", DOWNLOAD, "ESP32-S2 in download mode"),
        ("ACM5", PROMPT, "ESP32-S3, -C3 or -C6, USB serial/JTAG"),
        ("ACM6", BRIDGE, "ST-Link"),
        ("ACM7", OTHER, "own USB of an STM32"),
        ("USB0", BRIDGE, "CP210x bridge"),
    ]


def test_port_that_is_not_there_is_refused_with_the_list_of_ports() -> None:
    with pytest.raises(DeviceError, match="/dev/ttyACM0") as caught:
        ports.choose_prompt("/dev/none", [PICO])
    assert caught.value.reason == "port"


@pytest.mark.parametrize("path", ["/dev/null", __file__])
def test_file_that_is_no_serial_port_is_refused_as_such(path: str) -> None:
    with pytest.raises(DeviceError, match=f"^port: {path}: it is no serial port"):
        ports.named(path, [])


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


def test_number_that_several_adapters_share_finds_none_of_them() -> None:
    same = SerialPort("/dev/ttyUSB2", BRIDGE, "CP210x bridge", ADAPTER.serial_number, 0x10C4)
    assert ports.with_serial_number("0001", [ADAPTER, OTHER_ADAPTER]) == ADAPTER
    assert ports.with_serial_number("0001", [ADAPTER, same]) is None


def test_restarted_board_is_not_taken_for_its_neighbour_with_a_similar_number() -> None:
    before = SerialPort("/dev/ttyACM0", PROMPT, "a Pico", "E6614104032B5A2A", 0x2E8A)
    similar = SerialPort("/dev/ttyACM1", PROMPT, "a Pico", "E6614104032B5A2B", 0x2E8A)
    again = SerialPort("/dev/ttyACM2", PROMPT, "a Pico", "E6614104032B5A2A", 0x2E8A)
    assert ports.returned(before, [similar.device], [similar]) is None
    assert ports.returned(before, [similar.device], [similar, again]) == again
    assert ports.returned(None, [similar.device], [similar, again]) == again
    assert ports.returned(None, [], [similar, again]) is None


def test_restarted_esp_is_told_from_another_by_the_address_in_its_number() -> None:
    before = SerialPort("/dev/ttyACM0", PROMPT, "own USB", "f412fa4000010000", 0x303A)
    download = SerialPort("/dev/ttyACM1", PROMPT, "JTAG", "F4:12:FA:40:00:01", 0x303A)
    second = SerialPort("/dev/ttyACM2", PROMPT, "JTAG", "F4:12:FA:40:00:02", 0x303A)
    assert ports.returned(before, [], [second, download]) == download
    assert ports.returned(download, [], [second, before]) == before


@pytest.mark.parametrize("comm", [b"terminal", b"J\xfcrgen"])
def test_error_of_a_port_in_use_names_the_program(comm: bytes) -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    script = (
        f"open('/proc/self/comm', 'wb').write({comm!r}); port = open({name!r}, 'rb', 0);"
        " print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        os.close(slave)
        error = ports.explain_refusal(name)
        holder.communicate(b"\n")
    os.close(master)
    assert error.reason == "busy"
    assert f"in use by {os.fsdecode(comm)}:" in error.detail


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
