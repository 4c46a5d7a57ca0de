"""The boot drive of an RP2040 or RP2350: found, told by its chip, and written."""

from __future__ import annotations

import errno
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from plugvault.board import boot_drive
from plugvault.board.errors import DeviceError

UF2 = b"UF2\n" + bytes(1020)


def drive(tmp_path: Path, board_id: str) -> Path:
    folder = tmp_path / board_id
    folder.mkdir()
    text = f"UF2 Bootloader v3.0\nModel: a board\nBoard-ID: {board_id}\n"
    (folder / "INFO_UF2.TXT").write_text(text)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.uf2"
    path.write_bytes(UF2)
    return path


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of devices by their label, and no drive that is mounted."""
    folder = tmp_path / "by-label"
    folder.mkdir()
    monkeypatch.setattr(boot_drive, "_BY_LABEL", folder)
    monkeypatch.setattr(boot_drive, "_TIMEOUT", 0.0)
    monkeypatch.setattr(boot_drive, "_mounts", list)
    return folder


def test_uf2_is_copied_to_the_drive_of_its_chip(tmp_path: Path, file: Path) -> None:
    pico, pico_2 = drive(tmp_path, "RPI-RP2"), drive(tmp_path, "RP2350")
    begun: list[bool] = []

    def begins() -> None:
        begun.append((pico_2 / "firmware.uf2").exists())

    drives = [(pico, "RP2040"), (pico_2, "RP2350")]
    assert boot_drive.write(file, "RP2350", begins, drives) == pico_2
    assert begun == [False]
    assert (pico_2 / "firmware.uf2").read_bytes() == UF2
    assert [path.name for path in pico.iterdir()] == ["INFO_UF2.TXT"]


def never() -> None:
    raise AssertionError("nothing is to be written")


def test_drive_of_another_chip_stays_as_it_was(tmp_path: Path, file: Path, labels: Path) -> None:
    pico_2 = drive(tmp_path, "RP2350")
    with pytest.raises(DeviceError, match="no boot drive of an RP2040"):
        boot_drive.write(file, "RP2040", never, [(pico_2, "RP2350")])
    assert [path.name for path in pico_2.iterdir()] == ["INFO_UF2.TXT"]


def test_drives_of_other_chips_alone_are_refused_before_anything_is_written(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_drive.check("RP2040")
    pico_2 = drive(tmp_path, "RP2350")
    monkeypatch.setattr(boot_drive, "_mounts", lambda: [pico_2])
    with pytest.raises(DeviceError, match="no boot drive of an RP2040"):
        boot_drive.check("RP2040")
    boot_drive.check("RP2350")


def test_two_drives_of_one_chip_are_refused(tmp_path: Path, file: Path) -> None:
    drives = [(tmp_path, "RP2040"), (tmp_path, "RP2040")]
    with pytest.raises(DeviceError, match="plug in one board"):
        boot_drive.write(file, "RP2040", never, drives)


def test_drive_that_is_not_mounted_is_named_with_the_command(file: Path, labels: Path) -> None:
    (labels / "RP2350").touch()
    assert boot_drive.is_there("RP2350")
    assert not boot_drive.is_there("RP2040")
    with pytest.raises(DeviceError, match=f"`udisksctl mount -b {labels}/RP2350`"):
        boot_drive.write(file, "RP2350", never)
    with pytest.raises(DeviceError, match="hold BOOTSEL"):
        boot_drive.write(file, "RP2040", never)


def test_drive_is_awaited_beside_that_of_another_board(
    tmp_path: Path, file: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pico_2, pico = drive(tmp_path, "RP2350"), drive(tmp_path, "RPI-RP2")
    later = iter([[pico_2], [pico_2], [pico_2, pico]])
    monkeypatch.setattr(boot_drive, "_mounts", lambda: next(later))
    monkeypatch.setattr(boot_drive, "_TIMEOUT", 10.0)
    monkeypatch.setattr(boot_drive, "_PAUSE", 0.0)
    assert boot_drive.write(file, "RP2040", lambda: None) == pico


def test_drives_are_told_by_their_info_file(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [drive(tmp_path, "RPI-RP2"), drive(tmp_path, "RP2350"), drive(tmp_path, "FEATHER")]
    monkeypatch.setattr(boot_drive, "_mounts", lambda: [*folders, tmp_path])
    expected = list(zip(folders, ["RP2040", "RP2350", ""], strict=True))
    assert boot_drive.mounted() == expected
    assert boot_drive.is_there("RP2040")


def ending(monkeypatch: pytest.MonkeyPatch, at_sync: int, number: int) -> None:
    """Let the drive end at this acknowledgement of data, counted from 1."""
    count = itertools.count(1)

    def fsync(descriptor: int) -> None:
        if next(count) == at_sync:
            raise OSError(number, "the drive ended")

    monkeypatch.setattr(boot_drive.os, "fsync", fsync)


@pytest.mark.parametrize("number, fails", [(errno.EIO, False), (errno.ENOSPC, True)])
def test_drive_may_disappear_before_the_last_block_is_acknowledged(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    pico = drive(tmp_path, "RPI-RP2")
    ending(monkeypatch, 2, number)
    if not fails:
        assert boot_drive.write(file, "RP2040", lambda: None, [(pico, "RP2040")]) == pico
        assert (pico / "firmware.uf2").read_bytes() == UF2
        return
    with pytest.raises(DeviceError, match="the drive ended"):
        boot_drive.write(file, "RP2040", lambda: None, [(pico, "RP2040")])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENODEV])
def test_drive_that_disappears_before_the_last_block_is_an_error(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    pico = drive(tmp_path, "RPI-RP2")
    ending(monkeypatch, 1, number)
    with pytest.raises(DeviceError, match=f"{pico}: the drive ended"):
        boot_drive.write(file, "RP2040", lambda: None, [(pico, "RP2040")])
    assert (pico / "firmware.uf2").read_bytes() == UF2[:-512]


def test_drive_that_disappears_before_the_first_byte_is_an_error(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pico = drive(tmp_path, "RPI-RP2")
    real = Path.open

    def gone(path: Path, mode: str = "r", *options: Any, **more: Any) -> Any:
        if "w" in mode:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path, mode, *options, **more)

    monkeypatch.setattr(Path, "open", gone)
    with pytest.raises(DeviceError, match="Input/output error"):
        boot_drive.write(file, "RP2040", lambda: None, [(pico, "RP2040")])


def test_file_that_is_gone_begins_nothing(tmp_path: Path) -> None:
    pico = drive(tmp_path, "RPI-RP2")
    with pytest.raises(DeviceError, match=f"{tmp_path}/gone.uf2: No such file"):
        boot_drive.write(tmp_path / "gone.uf2", "RP2040", never, [(pico, "RP2040")])


@pytest.mark.parametrize(
    "name", ["jürgen".encode(), b"J\xfcrgen's drive\\", b"a b\tc\nd#\r", b"plain"]
)
def test_drive_is_found_under_a_name_of_any_bytes(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    folder.mkdir()
    pico = drive(folder, "RPI-RP2")
    escaped = re.sub(rb"[ \t\n\\#]", lambda byte: b"\\%03o" % byte[0][0], bytes(pico))
    mounts = tmp_path / "mounts"
    lines = [b"proc /proc proc rw 0 0", b"/dev/sdb1 %s vfat rw 0 0" % escaped, b""]
    mounts.write_bytes(b"\n".join(lines))
    monkeypatch.setattr(boot_drive, "_MOUNTS", mounts)
    assert boot_drive.mounted() == [(pico, "RP2040")]
