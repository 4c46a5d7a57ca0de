"""The repair of SoftHSM's files, and the files it leaves alone."""

import os
import struct

from evcc.vault import VaultError
from evcc.vault.backend import TokenFiles, token_files
from evcc.vault.softhsm import SoftHsmFiles, trouble


def attribute(value, length=None, kind=0x80005349):
    head = struct.pack(">Q", kind)
    if isinstance(value, bytes):
        size = len(value) if length is None else length
        return head + struct.pack(">QQ", 3, size) + value
    if isinstance(value, bool):
        return head + struct.pack(">QB", 1, value)
    return head + struct.pack(">QQ", 2, value)


def objectfile(*values, generation=1):
    return struct.pack(">Q", generation) + b"".join(attribute(value) for value in values)


TOKEN = objectfile(b"car" + b" " * 29, 0x42D, b"sealed" * 12)
KEY = objectfile(3, True, b"id", b"sealed" * 20)


class Store:
    """A folder of tokens with two in it, "a" (labelled "car") and "b"."""

    def __init__(self):
        self.folder = (os.getenv("TMPDIR") or "/tmp") + "/plugvault-" + os.urandom(8).hex()
        os.mkdir(self.folder)
        for token in "ab":
            os.mkdir(self.folder + "/" + token)
        self.write("a/token.object", TOKEN)
        self.write("b/token.object", objectfile(b"another" + b" " * 25))
        self.write("a/1.object", KEY)

    def write(self, name, data):
        with open(self.folder + "/" + name, "wb") as file:
            file.write(data)

    def read(self, name):
        with open(self.folder + "/" + name, "rb") as file:
            return file.read()

    def names(self, token="a"):
        return sorted(os.listdir(self.folder + "/" + token))

    def remove(self):
        for token in "ab":
            for name in self.names(token):
                os.remove(self.folder + "/" + token + "/" + name)
            os.rmdir(self.folder + "/" + token)
        os.rmdir(self.folder)


def test_a_truncated_token_file_is_restored():
    store = Store()
    SoftHsmFiles(store.folder).back_up("car")
    assert store.names("b") == ["token.object"]  # another token gets no backup
    if hasattr(os, "chmod"):
        assert os.stat(store.folder + "/a/token.kept")[0] & 0o777 == 0o600
    for n in range(len(TOKEN)):
        store.write("a/token.object", TOKEN[:n])
        SoftHsmFiles(store.folder).repair()
        assert store.read("a/token.object") == TOKEN, n
    os.remove(store.folder + "/a/token.object")
    SoftHsmFiles(store.folder).repair()
    assert store.read("a/token.object") == TOKEN
    store.remove()


def test_the_backup_is_the_latest_complete_file():
    store = Store()
    SoftHsmFiles(store.folder).back_up("car")
    backup = store.read("a/token.kept")
    store.write("a/token.object", struct.pack(">Q", 2) + TOKEN[8:])  # a login, and no more
    SoftHsmFiles(store.folder).back_up("car")
    assert store.read("a/token.kept") == backup
    store.write("a/token.object", TOKEN[:-1])
    SoftHsmFiles(store.folder).back_up("car")
    assert store.read("a/token.kept") == backup
    another = objectfile(b"car" + b" " * 29, 0x42D, b"opened" * 12)  # another PIN
    store.write("a/token.object", another)
    SoftHsmFiles(store.folder).repair()
    assert store.read("a/token.object") == another
    SoftHsmFiles(store.folder).back_up("car")
    assert store.read("a/token.kept") == another
    assert store.read("a/token.before") == backup
    store.remove()


def test_a_token_without_a_backup_stays_as_it_is():
    store = Store()
    store.write("a/token.object", b"")
    SoftHsmFiles(store.folder).repair()
    assert store.read("a/token.object") == b""
    assert store.names() == ["1.object", "token.object"]
    store.remove()


def test_a_file_with_an_impossible_length_is_put_aside_and_a_short_one_is_not():
    store = Store()
    fatal = objectfile(3, True) + attribute(b"id", 1 << 40) + attribute(b"")
    others = {"2": b"", "3": KEY[:-1], "4": KEY[:8], "5": KEY[:40], "6": KEY}
    for name, data in others.items():
        store.write("a/" + name + ".object", data)
    store.write("a/9.object", fatal)
    SoftHsmFiles(store.folder).repair()
    assert store.read("a/9.damaged") == fatal
    for name, data in others.items():
        assert store.read("a/" + name + ".object") == data
    assert "9.object" not in store.names()
    store.remove()


def token(serial):
    return objectfile(b"car" + b" " * 29) + attribute(serial, kind=0x8000534A) + attribute(0x42D)


def test_a_serial_number_that_equals_the_empty_slots_is_restored():
    """Two tokens: the empty slot has number 2. Number 1 may be of an uncounted token."""
    intact = token(b"7a8fa5182a30b2df")
    for last in (b"2\xe130b2df", b"02g0b2df", b" 2x0b2df", b"0x2!b2df", b"00000001", b"+2 0b2df"):
        store, damaged = Store(), token(b"7a8fa518" + last)
        store.write("a/token.object", intact)
        SoftHsmFiles(store.folder).back_up("car")
        store.write("a/token.object", damaged)
        SoftHsmFiles(store.folder).repair()
        assert store.read("a/token.object") == intact, last
        assert store.read("a/token.damaged") == damaged
        store.remove()


def test_a_serial_number_that_is_damaged_otherwise_is_the_librarys_to_read():
    for damaged in (b"", b"7a8fa518xa30b2df", b"7a8fa5183-30b2df", b"7a8fa518" * 3):
        store = Store()
        SoftHsmFiles(store.folder).back_up("car")
        store.write("a/token.object", token(damaged))
        SoftHsmFiles(store.folder).repair()
        assert store.read("a/token.object") == token(damaged)
        store.remove()


def test_a_label_that_looks_like_a_serial_number_is_no_reason_to_fail():
    store, odd = Store(), objectfile(0x42D, struct.pack(">QQ", 0x8000534A, 3))
    store.write("a/token.object", odd)
    SoftHsmFiles(store.folder).repair()
    assert store.read("a/token.object") == odd
    store.remove()


def test_two_copies_of_a_token_are_left_alone_and_named():
    store = Store()
    store.write("a/token.object", token(b"7a8fa5182a30b2df"))
    store.write("b/token.object", token(b"000000002a30b2df"))
    try:
        SoftHsmFiles(store.folder).repair()
    except VaultError as error:
        assert error.reason == "unavailable"
        assert store.folder + "/a" in error.detail
        assert store.folder + "/b" in error.detail
    else:
        raise AssertionError("not said")
    assert store.read("b/token.object") == token(b"000000002a30b2df")
    store.remove()


def test_without_softhsm_there_is_nothing_to_do():
    files = token_files(None, "")
    assert type(files) is TokenFiles
    files.repair()
    files.back_up("car")
    SoftHsmFiles("/no/such/folder").repair()


def test_the_cause_of_a_start_that_fails_is_named():
    assert "cannot be read: /nowhere/conf; SOFTHSM2_CONF" in trouble("/nowhere/conf")
