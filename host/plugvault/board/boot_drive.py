"""The boot drive of an RP2040 or RP2350, onto which a UF2 is copied.

The chip shows it as a USB drive while BOOTSEL is held at its start, and after
`machine.bootloader()`. INFO_UF2.TXT on it names the chip: a UF2 for another chip would be copied,
and nothing would happen.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plugvault.board.errors import DeviceError

_LABELS = {"RPI-RP2": "RP2040", "RP2350": "RP2350"}  # of the drive, and its Board-ID
_BY_LABEL = Path("/dev/disk/by-label")
_TIMEOUT = 20.0  # seconds: the chip restarts, and the desktop mounts the drive
_PAUSE = 0.5
_ENDS = (errno.EIO, errno.ENODEV)  # of a drive that has disappeared
_BLOCK = 512  # bytes of a UF2; after the last one the chip restarts
_MOUNTS = Path("/proc/mounts")
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")  # a byte there: of a space, a backslash


def mounted() -> list[tuple[Path, str]]:
    """(folder, chip) of every mounted boot drive; the chip is "" for an unknown one."""
    drives = []
    for folder in _mounts():
        try:
            info = (folder / "INFO_UF2.TXT").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        board = next(
            (line[9:].strip() for line in info.splitlines() if line.startswith("Board-ID:")), ""
        )
        drives.append((folder, _LABELS.get(board, "")))
    return drives


def is_there(chip: str) -> bool:
    """Whether a chip of this kind shows its drive, mounted or not."""
    return any(other == chip for _, other in mounted()) or _device(chip) is not None


def check(chip: str) -> None:
    """Raise DeviceError("firmware") if the drives that are mounted are of other chips."""
    drives = mounted()
    if drives and all(other != chip for _, other in drives):
        raise DeviceError("firmware", _missing(chip, drives))


def write(
    path: Path,
    chip: str,
    begins: Callable[[], None],
    drives: list[tuple[Path, str]] | None = None,
) -> Path:
    """Copy a UF2 onto the one boot drive of its chip, for which it waits. Returns its folder.

    begins: called before the first byte is written. Raises: DeviceError("firmware"), also for a
    drive that disappears before it has the whole file.
    """
    if drives is None:
        drives = _wait(chip)
    fitting = [folder for folder, other in drives if other == chip]
    if not fitting:
        raise DeviceError("firmware", _missing(chip, drives))
    if len(fitting) > 1:
        raise DeviceError("firmware", "several boot drives: plug in one board")
    try:
        data = path.read_bytes()
        begins()
        _copy(data, fitting[0] / path.name)
    except OSError as error:
        place = error.filename or fitting[0]
        raise DeviceError("firmware", f"{place}: {error.strerror}") from error
    return fitting[0]


def _copy(data: bytes, target: Path) -> None:
    """Write a UF2. Raises OSError, but not for the drive's end after the last block: the board may
    restart before it acknowledges that one.

    The system's cache takes a whole file at once, and a pulled cable is an error of `fsync` alone.
    So the drive has to acknowledge everything else before the last block is written.
    """
    has_the_others = False
    try:
        with target.open("wb") as file:
            for part in (data[:-_BLOCK], data[-_BLOCK:]):
                file.write(part)
                file.flush()
                os.fsync(file.fileno())
                has_the_others = True
    except OSError as error:
        if not has_the_others or error.errno not in _ENDS:
            raise


def _missing(chip: str, drives: list[tuple[Path, str]]) -> str:
    """The reason for which no drive of this chip can be written, with the remedy."""
    device = _device(chip)
    if device is not None:
        return (
            f"the boot drive of the {chip} is not mounted: `udisksctl mount -b {device}`, then the"
            " same command again"
        )
    others = ", ".join(f"{folder} ({other or 'unknown'})" for folder, other in drives)
    return (
        f"no boot drive of an {chip}: hold BOOTSEL and plug the board in. A board that runs"
        " MicroPython, with USB numbers of its maker, needs its port as PORT instead. There is:"
        f" {others or 'none'}. A UF2 for another chip would be copied, and nothing would happen"
    )


def _device(chip: str) -> Path | None:
    """The device of this chip's drive, by its label; None without one."""
    devices = [_BY_LABEL / label for label, other in _LABELS.items() if other == chip]
    return next((device for device in devices if device.exists()), None)


def _mounts() -> Iterator[Path]:
    """The folders at which a FAT is mounted. Their names are bytes of any kind."""
    with contextlib.suppress(OSError):
        for line in _MOUNTS.read_bytes().split(b"\n"):
            _, folder, kind, *_ = line.split(b" ") if line else (b"", b"", b"")
            if kind in (b"vfat", b"msdos"):
                name = _ESCAPED.sub(lambda escape: bytes([int(escape[1], 8)]), folder)
                yield Path(os.fsdecode(name))


def _wait(chip: str) -> list[tuple[Path, str]]:
    """Every mounted drive, as soon as one is of this chip: other boards may show theirs."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        drives = mounted()
        if any(other == chip for _, other in drives) or time.monotonic() >= deadline:
            return drives
        time.sleep(_PAUSE)
