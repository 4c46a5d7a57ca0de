"""The file store: a write is complete or has no effect, after any interruption."""

import builtins
import os

from evcc.ports import files, slots
from evcc.ports.files import Files, StoreError
from evcc.ports.slots import SlotFiles
from helpers import raises


class Cut(BaseException):
    """The power goes: nothing after this runs, not even the clean-up."""


class _Scene:
    """A stand-in for `open`, `os` and `os.open` that fails at step `at`."""

    def __init__(self, at=0, error=None, lost=0):
        self.at = at
        self.error = error
        self.lost = lost  # bytes that a write leaves out without a word
        self.step = 0
        self.calls = []

    def tick(self, *call):
        self.calls.append(call)
        self.step += 1
        if self.step == self.at or (self.step > self.at and isinstance(self.error, Cut)):
            raise self.error

    def __getattr__(self, name):
        original = getattr(os, name)
        if name not in ("rename", "remove", "fsync"):
            return original

        def stepped(*args):
            self.tick(name, *args)
            return original(*args)

        return stepped

    def open(self, *args):
        self.tick("open", *args)
        if len(args) == 2 and isinstance(args[1], int):
            return os.open(*args)
        return _File(self, builtins.open(*args))


class _File:
    def __init__(self, scene, file):
        self.scene = scene
        self.file = file
        self.fileno = getattr(file, "fileno", None)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.file.close()

    def read(self, *length):
        return self.file.read(*length)

    def seek(self, place):
        self.file.seek(place)

    def write(self, data):
        self.scene.tick()
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.scene.tick()
        return half + self.file.write(data[half:]) - self.scene.lost

    def flush(self):
        self.scene.tick("flush")
        self.file.flush()


def _folder():
    return (os.getenv("TMPDIR") or "/tmp") + "/plugvault-" + os.urandom(8).hex()


def _remove(folder):
    for name in os.listdir(folder):
        os.remove(folder + "/" + name)
    os.rmdir(folder)


def _write(store, scene, port=files):
    port.os = scene
    port.open = scene.open
    try:
        store.write("slots", b"new" * 100)
    finally:
        port.os = os
        del port.open


def _attempt(folder, at, error):
    """One write that fails at step `at`; returns whether the write got that far."""
    scene = _Scene(at, error)
    try:
        _write(Files(folder), scene)
    except (Cut, StoreError):
        pass
    return scene.step >= at


def test_written_files_are_read_back_by_the_next_start():
    folder = _folder()
    Files(folder).write("slots", b"\x00\x01")
    store = Files(folder)
    assert store.read("slots") == b"\x00\x01"
    assert store.read("other") is None
    store.write("a", b"")
    assert store.names() == ["a", "slots"]
    store.delete("slots")
    store.delete("slots")
    assert store.names() == ["a"]
    _remove(folder)


def test_power_cut_at_every_step_leaves_old_or_new():
    folder = _folder()
    outcomes = set()
    at = 1
    while True:
        Files(folder).write("slots", b"old" * 100)
        reached = _attempt(folder, at, Cut())
        store = Files(folder)
        outcomes.add(store.read("slots"))
        assert os.listdir(folder) == ["slots"]
        if not reached:
            break
        at += 1
    assert outcomes == {b"old" * 100, b"new" * 100}
    assert at > 5
    _remove(folder)


def test_full_flash_at_every_step_keeps_the_old_bytes_and_leaves_nothing_behind():
    folder = _folder()
    refused = 0
    for at in range(1, 6):
        store = Files(folder)
        store.write("slots", b"old")
        try:
            _write(store, _Scene(at, OSError(28, "no space")))
        except StoreError as error:
            refused += 1
            assert error.reason == "full"
            assert store.read("slots") == b"old"
        assert os.listdir(folder) == ["slots"]
    assert refused >= 5
    _remove(folder)


def test_a_heap_that_runs_out_is_a_failure_before_the_rename_alone():
    """The caller of a write that failed would act on the old bytes."""
    folder = _folder()
    outcomes, at, reached = [], 1, True
    while reached:
        Files(folder).write("slots", b"old")
        scene = _Scene(at, MemoryError())
        try:
            _write(Files(folder), scene)
            outcomes.append("written")
        except MemoryError:
            outcomes.append("failed")
        is_old = Files(folder).read("slots") == b"old"
        assert is_old == (outcomes[-1] == "failed")
        reached = scene.step >= at
        at += 1
    assert "failed" in outcomes
    assert "written" in outcomes[:-1]  # at a step that failed after the rename
    _remove(folder)


def test_a_write_that_was_cut_short_without_an_error_is_one():
    folder = _folder()
    store = Files(folder)
    store.write("slots", b"old")
    raises(StoreError, "full", _write, store, _Scene(lost=1))
    assert store.read("slots") == b"old"
    _remove(folder)
    folder = _folder()
    store = SlotFiles(folder)
    store.write("slots", b"old")
    raises(StoreError, "full", _write, store, _Scene(lost=1), slots)
    assert store.read("slots") == b"old"
    _remove(folder)


def test_the_medium_has_the_bytes_before_the_name_and_the_name_before_the_return():
    folder = _folder()
    scene = _Scene()
    _write(Files(folder), scene)
    steps = [call[0] for call in scene.calls if call]
    assert steps.index("flush") < steps.index("rename")
    after = scene.calls[[call[:1] for call in scene.calls].index(("rename",)) + 1 :]
    assert after[0][:2] == ("open", folder)
    assert after[1][0] in ("fsync", "flush")
    _remove(folder)


def test_a_name_cannot_leave_the_folder_or_pass_for_a_leftover():
    folder = _folder()
    store = Files(folder)
    for name in ("", ".", "..", ".hidden", "a/b", "../x", "a\x00", "x" * 65, "slots.new", "ä"):
        raises(StoreError, "name", store.read, name)
        raises(StoreError, "name", store.write, name, b"x")
        raises(StoreError, "name", store.delete, name)
    assert store.names() == []
    _remove(folder)


def test_a_folder_that_cannot_be_made_is_a_clear_error():
    raises(StoreError, "io", Files, "/no-such-folder/at-all")
