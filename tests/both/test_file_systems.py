"""The store on real FAT and littlefs: a power cut at any write leaves the old bytes or the new."""

import binascii
import os
import struct

from evcc.contracts import Contracts
from evcc.ports import files
from evcc.ports.slots import SlotFiles
from helpers import raises, skip
from memory import KeyList
from ram_disk import AFTER, BEFORE, HALF, RamDisk, file_systems, mounted
from test_contracts import chain, contract

OLD, NEW = b"old " * 150, b"new " * 300
OTHER = b"another file"
_TOO_MANY = 200  # writes for one change


def _kinds():
    kinds = file_systems()
    if not kinds:
        skip("no file systems in this interpreter")
    return kinds.items()


def _formatted(kind, *writes):
    disk = RamDisk()
    kind.mkfs(disk)

    def fill(folder):
        store = files.open_folder(folder + "/store")
        for name, data in writes:
            store.write(name, data)

    mounted(kind, disk, fill)
    return disk


def _write(folder, data):
    files.open_folder(folder + "/store").write("index", data)


def _delete(folder, data):
    files.open_folder(folder + "/store").delete("index")


def _stored(folder):
    store = files.open_folder(folder + "/store")
    return store.read("index"), store.read("other"), store.names()


def _sweep(kind, before, change, after):
    """Cut the power at each write of a change, in each way. before: the file's bytes, or None."""
    writes = [("other", OTHER)] + ([] if before is None else [("index", before)])
    cuts, at, done = 0, 0, False
    while not done:
        for part in (BEFORE, HALF, AFTER):
            disk = _formatted(kind, *writes)
            mounted(kind, disk, _stored)
            disk.cut(at, part)
            is_cut = False
            try:
                mounted(kind, disk, change, after)
                done = True
            except (files.StoreError, OSError):
                is_cut = True
                cuts += 1
            disk = disk.after()
            stored, other, names = mounted(kind, disk, _stored)
            assert stored in (before, after), (at, part, stored)
            assert other == OTHER
            assert ("index" in names) == (stored is not None)
            mounted(kind, disk, _write, b"next")
            assert mounted(kind, disk, _stored)[0] == b"next"
            if not is_cut:
                assert stored == after
        at += 1
        assert at < _TOO_MANY
    assert cuts >= 3
    return cuts


def test_a_power_cut_at_any_write_of_a_replacement_leaves_the_old_or_the_new():
    for name, kind in _kinds():
        print("   ", name, _sweep(kind, OLD, _write, NEW), "cuts")


def test_a_power_cut_at_any_write_of_a_new_file_leaves_none_or_all_of_it():
    for _, kind in _kinds():
        _sweep(kind, None, _write, NEW)


def test_a_power_cut_at_any_write_of_a_deletion_leaves_the_file_or_none():
    for _, kind in _kinds():
        _sweep(kind, OLD, _delete, None)


def test_fat_has_slots_and_littlefs_has_not_whatever_else_lies_there():
    for name, kind in _kinds():
        disk = _formatted(kind, ("index", OLD))

        def look(folder):
            return type(files.open_folder(folder + "/store"))

        assert (mounted(kind, disk, look) is SlotFiles) == (name == "VfsFat")
        if name != "VfsFat":
            mounted(kind, disk, lambda folder: files.Files(folder + "/STORE"))
            assert mounted(kind, disk, look) is files.Files


def test_a_relative_folder_is_in_the_current_one_and_has_the_same_files():
    for name, kind in _kinds():
        disk = _formatted(kind, ("index", OLD))

        def look(folder):
            before = os.getcwd()
            os.chdir(folder)
            try:
                store = files.open_folder("store")
                return type(store), store.read("index")
            finally:
                os.chdir(before)

        expected = SlotFiles if name == "VfsFat" else files.Files
        assert mounted(kind, disk, look) == (expected, OLD)


def test_removed_contracts_leave_the_index_with_its_owner_and_no_chain_and_no_key():
    for _, kind in _kinds():
        vault = KeyList([bytes([1]) * 16, bytes([2]) * 16])

        def remove(folder, vault=vault):
            store = files.open_folder(folder + "/store")
            contracts = Contracts(store)
            contracts.recover(KeyList([]))
            contracts.commit(contract(1), chain(1))
            contracts.commit(contract(2), chain(2))
            for each in contracts.all():
                vault.delete(contracts.delete(each.emaid))
            return contracts.owner, store.names()

        def restart(folder, vault=vault):
            contracts = Contracts(files.open_folder(folder + "/store"))
            return contracts.recover(vault), contracts.all(), contracts.owner

        disk = _formatted(kind)
        owner, names = mounted(kind, disk, remove)
        assert names == ["contracts"]
        assert mounted(kind, disk, restart) == ([], [], owner)
        assert vault.held == []


def test_a_full_disk_keeps_the_old_file_and_says_full():
    for _, kind in _kinds():
        disk = _formatted(kind, ("index", OLD))

        def fill(folder):
            store = files.open_folder(folder + "/store")
            raises(files.StoreError, "full", store.write, "index", bytes(60000))
            assert store.read("index") == OLD
            store.write("index", NEW)
            assert store.read("index") == NEW

        mounted(kind, disk, fill)


def test_slots_that_are_torn_do_not_count():
    kind = dict(_kinds()).get("VfsFat")
    if kind is None:
        skip("no FAT in this interpreter")
    disk = _formatted(kind, ("index", OLD), ("index", NEW))

    def tear(folder, content):
        with open(folder + "/store/index.b", "wb") as file:
            file.write(content)
        return files.open_folder(folder + "/store").read("index")

    whole = mounted(kind, disk, lambda folder: open(folder + "/store/index.b", "rb").read())
    assert mounted(kind, disk, tear, whole) == NEW
    huge = b"\xff" * 9
    for torn in (b"", whole[:8], whole[:-1], whole + b"\0", huge):
        assert mounted(kind, disk, tear, torn) == OLD, torn


def _slots(change=lambda content: content):
    """The file as a store of slots reads it after a change in its newest slot, and after the next
    write; None where that fails."""
    folder = (os.getenv("TMPDIR") or "/tmp") + "/plugvault-" + os.urandom(8).hex()
    store = SlotFiles(folder)
    try:
        store.write("index", OLD)
        store.write("index", NEW)
        path = folder + "/index.b"
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(change(content))
        before = store.read("index"), store.names()
        try:
            store.write("index", OTHER)
        except files.StoreError as error:
            assert error.reason == "io"
            return before[0], None
        assert before[1] == ["index"]
        return before[0], store.read("index")
    finally:
        for name in os.listdir(folder):
            os.remove(folder + "/" + name)
        os.rmdir(folder)


def test_an_altered_bit_in_the_newest_slot_reads_as_no_record_and_not_as_the_older_one():
    assert _slots() == (NEW, OTHER)
    for at in (0, 3, 8, 9, 20, -1):  # not in the length: that slot is torn

        def alter(content, at=at):
            altered = bytearray(content)
            altered[at] ^= 1
            return altered

        assert _slots(alter) == (b"", OTHER), at


def test_a_slot_of_the_last_generation_is_altered_and_is_not_written_over():
    def forge(content):
        body = struct.pack(">IIB", 0xFFFFFFFF, 3, 1) + b"new"
        return body + struct.pack(">I", binascii.crc32(body) & 0xFFFFFFFF)

    assert _slots(forge) == (b"", None)
