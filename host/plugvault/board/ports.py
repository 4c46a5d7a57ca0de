"""The serial ports of this computer, and which of them lead to a board.

A USB port says its maker and product (VID:PID). MicroPython's own USB has known numbers. A bridge
chip (CP210x, CH340, FTDI) says nothing of the board behind it, so it can be a board's prompt or
the adapter on a board's link. Any other device may be a board with its maker's own numbers, so no
bridge beside it is taken for the board.
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from plugvault import serial_port
from plugvault.board.errors import DeviceError

PROMPT, BRIDGE, DOWNLOAD, OTHER = "prompt", "bridge", "download", "other"
# By USB vendor and product, None for every product of a vendor.
_DEVICES: dict[tuple[int, int | None], tuple[str, str]] = {
    (0x2E8A, 0x0005): (PROMPT, "MicroPython on RP2040 or RP2350"),
    (0xF055, 0x9800): (PROMPT, "MicroPython on STM32"),
    (0xF055, 0x9801): (PROMPT, "MicroPython on STM32"),
    (0xF055, 0x9802): (PROMPT, "MicroPython on STM32"),
    (0x303A, 0x4001): (PROMPT, "MicroPython on ESP32-S2 or -S3, own USB"),
    (0x303A, 0x1001): (PROMPT, "ESP32-S3, -C3 or -C6, USB serial/JTAG"),
    (0x303A, 0x0002): (DOWNLOAD, "ESP32-S2 in download mode"),
    (0x303A, 0x0009): (DOWNLOAD, "ESP32-S3 in download mode"),
    (0x2E8A, 0x0004): (BRIDGE, "Picoprobe"),
    (0x2E8A, 0x000C): (BRIDGE, "Raspberry Pi Debug Probe"),
    (0x10C4, None): (BRIDGE, "CP210x bridge"),
    (0x1A86, None): (BRIDGE, "CH340 or CH910x bridge"),
    (0x0403, None): (BRIDGE, "FTDI bridge"),
    (0x067B, None): (BRIDGE, "PL2303 bridge"),
    (0x0483, 0x5740): (OTHER, "own USB of an STM32"),
    (0x0483, None): (BRIDGE, "ST-Link"),
    (0x0D28, None): (BRIDGE, "DAPLink"),
}
# Own USB of an Espressif chip: it disappears in a soft reset.
ESPRESSIF_USB = 0x303A
_ADDRESS = 12  # digits of its address in its serial number, before others
_HOLDERS = 4  # processes that a message names


@dataclass(frozen=True)
class SerialPort:
    """A serial port. `kind`: PROMPT, BRIDGE, DOWNLOAD (an ESP without a program) or OTHER;
    `serial_number`: of the USB device, or ""; `vid`: USB vendor."""

    device: str
    kind: str
    description: str
    serial_number: str = ""
    vid: int = 0


def find() -> list[SerialPort]:
    """Every USB serial port, by name."""
    ports = []
    for port in sorted(list_ports.comports()):
        if port.vid is None:
            continue  # a UART of the mainboard
        known = _DEVICES.get((port.vid, port.pid)) or _DEVICES.get((port.vid, None))
        kind, text = known or (OTHER, _described(port))
        ports.append(SerialPort(port.device, kind, text, port.serial_number or "", port.vid))
    return ports


def _described(port: ListPortInfo) -> str:
    """The texts and numbers of a USB device that is not in `_DEVICES`."""
    texts = " ".join(text for text in (port.manufacturer, port.product) if text)
    return f"{texts or 'USB device'} {port.vid:04X}:{port.pid:04X}"


def choose_prompt(wanted: str | None, ports: Sequence[SerialPort]) -> SerialPort:
    """The port of a board's prompt: the named one, or the only one that can be it.

    Raises: DeviceError("port") with the list of ports.
    """
    if wanted:
        return named(wanted, ports)
    prompts = [port for port in ports if port.kind == PROMPT]
    others = [port for port in ports if port.kind in (DOWNLOAD, OTHER)]
    candidates = prompts or others or [port for port in ports if port.kind == BRIDGE]
    if len(candidates) > 1:
        reason = "several ports can be the board's"
    elif not candidates:
        reason = (
            "no board on USB. Is the cable a data cable? A Pico without MicroPython is a drive:"
            " --firmware FILE.uf2 writes it"
        )
    elif candidates[0].kind == DOWNLOAD:
        reason = (
            "an ESP waits for a program: press RESET, or --firmware FILE.bin writes MicroPython"
        )
    elif candidates[0].kind == OTHER:
        reason = "no port has the USB numbers of MicroPython, and one may still be a board's"
    else:
        return candidates[0]
    raise DeviceError("port", f"{reason}. Name the board's port as PORT. {_listed(ports)}")


def choose_link(wanted: str | None, ports: Sequence[SerialPort], prompt: str) -> str | None:
    """The device of a board's link: the named one, or the only bridge besides the prompt's port.
    None when there is no choice or more than one."""
    if wanted:
        return named(wanted, ports).device
    bridges = [port.device for port in ports if port.kind == BRIDGE and port.device != prompt]
    return bridges[0] if len(bridges) == 1 else None


def named(device: str, ports: Sequence[SerialPort]) -> SerialPort:
    """The port of this name, which need not be USB. Raises: DeviceError("port") for none."""
    real = os.path.realpath(device)
    for port in ports:
        if device == port.device or real == os.path.realpath(port.device):
            return port
    if "://" not in device and not Path(device).exists():
        raise DeviceError("port", f"{device} is not there. {_listed(ports)}")
    if "://" not in device and serial_port.is_another_kind(device):
        raise DeviceError("port", f"{device}: {serial_port.NO_PORT}. {_listed(ports)}")
    return SerialPort(device, OTHER, "named port")


def require_two(prompt: str, link: str) -> None:
    """Raise DeviceError("port") where a board's prompt and its link are one port."""
    if link and os.path.realpath(prompt) == os.path.realpath(link):
        raise DeviceError(
            "port",
            f"prompt and link are one port, {link}. The prompt is MicroPython's port, and the link"
            " that of the adapter at the board's UART: `plugvault flash PROMPT --link LINK`",
        )


def with_serial_number(number: str, ports: Sequence[SerialPort]) -> SerialPort | None:
    """The only port of a USB device with this serial number, under its present name; None without
    one. Many adapters have the same number, "0001"."""
    same = [port for port in ports if number and port.serial_number == number]
    return same[0] if len(same) == 1 else None


def returned(
    before: SerialPort | None, others: Collection[str], ports: Sequence[SerialPort]
) -> SerialPort | None:
    """The port of a board that has restarted, perhaps with another name and other USB numbers.

    before: its port, None for a board without one; others: the devices that were there beside it.
    An ESP32-S3 changes its numbers between download mode and MicroPython, and keeps its address,
    which is part of its serial number. None: it is not there yet, or cannot be told from others.
    """
    if before is not None and (before.kind == BRIDGE or not before.vid):
        return next((port for port in ports if port.device == before.device), None)
    own = [port for port in ports if port.kind != BRIDGE]
    same = [port for port in own if before and _chip(before) and _chip(port) == _chip(before)]
    new = [port for port in own if port.device not in others]
    for candidates in (same, [port for port in new if port.kind == PROMPT], new):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _chip(port: SerialPort) -> str:
    """The hexadecimal digits of a serial number that stay the same for one chip; "" without."""
    digits = re.sub(r"[^0-9a-f]", "", port.serial_number.lower())
    if len(digits) < _ADDRESS:
        return ""
    return digits[:_ADDRESS] if port.vid == ESPRESSIF_USB else digits


def explain_refusal(device: str) -> DeviceError:
    """The DeviceError for a port that could not be opened: "permission", "busy" or "gone", with
    the remedy."""
    path = Path(device)
    if not path.exists():
        return DeviceError("gone", f"{device} has disappeared: is the cable still plugged in?")
    if not os.access(path, os.R_OK | os.W_OK):
        group = _group(path)
        return DeviceError(
            "permission",
            f"{device} belongs to the group {group}: `sudo usermod -a -G {group} $USER`,"
            " then log in again",
        )
    holders = list(_holders(path))
    if "ModemManager" in holders:
        remedy = "wait half a minute, or `sudo systemctl stop ModemManager`"
    else:
        remedy = "close the program that has it open"
    by = f" by {', '.join(holders[:_HOLDERS])}" if holders else ""
    return DeviceError("busy", f"{device} is in use{by}: {remedy}")


def _listed(ports: Sequence[SerialPort]) -> str:
    if not ports:
        return "There is no USB serial port"
    return "There are: " + "; ".join(f"{port.device} ({port.description})" for port in ports)


def _group(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return "dialout"


def _holders(path: Path) -> Iterator[str]:
    """Names of other processes that have the port open, as far as this user may see them."""
    real, own = os.path.realpath(path), str(os.getpid())
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == own:
            continue
        try:
            if any(os.path.realpath(fd) == real for fd in (process / "fd").iterdir()):
                yield os.fsdecode((process / "comm").read_bytes()).strip()
        except OSError:
            continue
