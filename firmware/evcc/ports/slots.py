"""Small named files on a file system whose `rename` is not atomic, such as FAT.

FAT replaces a file in two steps, and a power cut between them loses it. Here each name has two
slots, files of their own, that are written in turn. A slot holds its generation, its length, the
data and a CRC-32: a torn slot is ignored, and the other one is the file. FAT writes a file's
length last, so a slot with its whole length was written. If its CRC-32 is wrong all the same, it
was altered afterwards, and the file reads as empty, which is no record. A deletion is a slot
without data that is newer than both; then both are removed, the older one first.

Holds as long as the medium replaces a sector of 512 bytes as a whole or from its front. A flash
that erases more than that at once (the internal one of an STM32) needs littlefs.
"""

import binascii
import os
import struct

from evcc.ports.files import Files, discard, flush, store_error

_SLOTS = (".a", ".b")
_HEAD = ">IIB"  # generation, bytes of data, whether the file exists
_HEAD_BYTES = 9
_CRC_BYTES = 4
_LAST = 0xFFFFFFFF  # a generation that no slot was written with


class SlotFiles(Files):
    """The files of a folder, with the interface and the errors of `evcc.ports.files.Files`."""

    def read(self, name: str) -> "bytes | None":
        path = self._path(name)
        try:
            return _newest(path)[2]
        except OSError as error:
            raise store_error(error, name)

    def write(self, name: str, *parts: bytes) -> None:
        self._put(name, parts, 1)

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            _, slot, data = _newest(path)
            if data is not None:
                slot = self._put(name, (), 0)
            for suffix in (_other(slot), slot):
                _remove(path + suffix)
        except OSError as error:
            raise store_error(error, name)

    def names(self) -> "list[str]":
        try:
            found = {name[:-2] for name in os.listdir(self._folder) if name[-2:] in _SLOTS}
            return sorted([n for n in found if _newest(self._path(n))[2] is not None])
        except OSError as error:
            raise store_error(error, self._folder)

    def _put(self, name: str, parts: tuple, exists: int) -> str:
        """Write the slot that is not the newest; its suffix."""
        path = self._path(name)
        try:
            generation, slot, _ = _newest(path)
            if generation == _LAST:
                raise OSError(5, "altered")
            slot = _other(slot)
            size = sum(len(part) for part in parts)
            parts = (struct.pack(_HEAD, generation + 1, size, exists),) + parts
            crc = 0
            for part in parts:
                crc = binascii.crc32(part, crc)
            with open(path + slot, "wb") as file:
                for part in parts + (struct.pack(">I", crc),):
                    if file.write(part) != len(part):
                        raise OSError(28, "short write")
                flush(file)
        except OSError as error:
            discard(path + slot)  # a torn slot takes room and does not count
            raise store_error(error, name)
        return slot


def _newest(path: str) -> tuple:
    """(generation, slot's suffix, data) of the newest whole slot; data None: there is no file;
    b"": the slot was altered."""
    heads = []
    for suffix in _SLOTS:
        head = _read(path + suffix, 0, _HEAD_BYTES)
        if len(head) == _HEAD_BYTES:
            heads.append((struct.unpack(_HEAD, head)[0], suffix, head))
    for generation, suffix, head in sorted(heads, reverse=True):
        _, length, exists = struct.unpack(_HEAD, head)
        if os.stat(path + suffix)[6] != _HEAD_BYTES + length + _CRC_BYTES:
            continue
        data = _read(path + suffix, _HEAD_BYTES, length + _CRC_BYTES)
        crc = binascii.crc32(data[:length], binascii.crc32(head))
        if data[length:] != struct.pack(">I", crc) or generation == _LAST:
            return generation, suffix, b""
        return generation, suffix, data[:length] if exists else None
    return 0, _SLOTS[1], None


def _other(suffix: str) -> str:
    return _SLOTS[1] if suffix == _SLOTS[0] else _SLOTS[0]


def _read(path: str, start: int, length: int) -> bytes:
    """At most `length` bytes from `start` on; b"" where there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(length)
    except OSError as error:
        if error.errno == 2:
            return b""
        raise


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except OSError as error:
        if error.errno != 2:
            raise
