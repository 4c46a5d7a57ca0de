"""The serial ports of this computer, and which of them lead to a board.

A USB port says its maker and product (VID:PID). MicroPython's own USB has known numbers; a bridge
chip (CP210x, CH340, FTDI) says nothing of the board behind it, so it can be a board's prompt or
the adapter on a board's link.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from plugvault.board.errors import DeviceError

PROMPT, BRIDGE, OTHER = "prompt", "bridge", "other"
_PROMPTS = {  # USB vendor and product of MicroPython's own serial port
    (0x2E8A, 0x0005): "MicroPython on RP2040 or RP2350",
    (0xF055, 0x9800): "MicroPython on STM32",
    (0xF055, 0x9801): "MicroPython on STM32",
    (0xF055, 0x9802): "MicroPython on STM32",
    (0x303A, 0x4001): "MicroPython on ESP32-S2 or -S3, own USB",
    (0x303A, 0x1001): "ESP32-S3 or -C3, USB serial/JTAG",
}
_BRIDGES = {
    0x10C4: "CP210x bridge",
    0x1A86: "CH340 or CH910x bridge",
    0x0403: "FTDI bridge",
    0x067B: "PL2303 bridge",
    0x0483: "ST-Link",
    0x0D28: "DAPLink",
}
# Own USB of an Espressif chip: it disappears in a soft reset.
ESPRESSIF_USB = 0x303A
_HOLDERS = 4  # processes that a message names


@dataclass(frozen=True)
class SerialPort:
    """A serial port. `kind`: PROMPT, BRIDGE or OTHER; `serial_number`: of the USB device, or "";
    `vid`: USB vendor."""

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
        name = _PROMPTS.get((port.vid, port.pid))
        bridge = _BRIDGES.get(port.vid)
        kind = PROMPT if name else BRIDGE if bridge else OTHER
        text = name or bridge or port.description or ""
        ports.append(SerialPort(port.device, kind, text, port.serial_number or "", port.vid))
    return ports


def choose_prompt(wanted: str | None, ports: Sequence[SerialPort]) -> SerialPort:
    """The port of a board's prompt: the named one, or the only one that can be it.

    Raises: DeviceError("port") with the list of ports.
    """
    if wanted:
        return named(wanted, ports)
    prompts = [port for port in ports if port.kind == PROMPT]
    candidates = prompts or [port for port in ports if port.kind == BRIDGE]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise DeviceError(
            "port",
            "no board on USB. Is the cable a data cable? A Pico without MicroPython is a drive:"
            " --firmware FILE.uf2 writes it. Another port: name it as PORT",
        )
    raise DeviceError("port", f"several boards: name one as PORT. {_listed(candidates)}")


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
    return SerialPort(device, OTHER, "named port")


def with_serial_number(number: str, ports: Sequence[SerialPort]) -> SerialPort | None:
    """The port of a USB device with this serial number, under its present name; None without
    one."""
    return next((port for port in ports if number and port.serial_number == number), None)


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
                yield (process / "comm").read_text().strip()
        except OSError:
            continue
