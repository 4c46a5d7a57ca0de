"""Temporary folders: in memory where there is room, and removed also after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugvault import temporary

HOLDER = """
import sys
from plugvault import temporary
with temporary.temporary_folder() as folder:
    (folder / "secrets.json").write_text("{}")
    print(folder, flush=True)
    sys.stdin.read()
"""


KILLED_AT = """
import os, sys
from plugvault import temporary
steps = 0
def audit(event, arguments):
    global steps
    if event in ("os.remove", "os.rmdir"):
        steps += 1
        if steps == int(sys.argv[1]):
            os._exit(9)
with temporary.temporary_folder() as folder:
    (folder / "tokens").mkdir()
    for name in ("secrets.json", "tokens/one", "z"):
        (folder / name).touch()
    sys.addaudithook(audit)
"""


@pytest.fixture
def tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    return tmp_path


def holder() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_a_live_ones_is_not(
    tmpdir: Path,
):
    killed, left = holder()
    live, kept = holder()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "secrets.json").exists()
    with temporary.temporary_folder() as own:
        assert own.parent == tmpdir
        assert not left.exists()
        assert (kept / "secrets.json").exists()
    live.communicate("")
    assert list(tmpdir.iterdir()) == []


def test_a_folder_that_was_removed_from_outside_hides_no_error_of_its_user(tmpdir: Path):
    def use() -> None:
        with temporary.temporary_folder() as own:
            shutil.rmtree(own)
            raise KeyError("of the user")

    with pytest.raises(KeyError, match="of the user"):
        use()


@pytest.mark.parametrize("step", range(1, 8))
def test_a_folder_whose_removal_was_killed_is_removed_by_the_next(tmpdir: Path, step: int):
    """At each file and folder that it removes."""
    command = [sys.executable, "-c", KILLED_AT, str(step)]
    status = subprocess.run(command, check=False, timeout=60).returncode
    assert status == (9 if step < 7 else 0)
    temporary.remove_left(tmpdir, "plugvault-")
    assert [path for path in tmpdir.rglob("*") if path.parent != tmpdir] == []


def test_left_folders_are_removed_from_memory_also_when_tmpdir_names_another_place(
    tmpdir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    memory = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(temporary, "_MEMORY", memory)
    killed, left = holder()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    left = left.rename(memory / left.name)
    with temporary.temporary_folder() as own:
        assert own.parent == tmpdir
        assert not left.exists()


def test_the_room_in_memory_is_measured_after_the_left_folders_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(temporary, "_MEMORY", tmp_path)
    left = tmp_path / "plugvault-left"
    left.mkdir()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    (left / ".owner").write_text(f"{namespace} {os.getpid()} 1")

    def usage(_: Path) -> Any:
        return shutil.disk_usage("/")._replace(free=0 if left.exists() else 1 << 30)

    monkeypatch.setattr(
        temporary, "shutil", SimpleNamespace(rmtree=shutil.rmtree, disk_usage=usage)
    )
    with temporary.temporary_folder(despite_tmpdir=True) as own:
        assert own.parent == tmp_path


def test_a_large_folder_is_not_made_in_memory(tmpdir: Path):
    with temporary.temporary_folder(despite_tmpdir=True, large=True) as own:
        assert own.parent == tmpdir


@pytest.mark.parametrize(
    "owner",
    [None, "0 1 1", "words", f"{os.getpid()}"],
    ids=["none", "another process", "words", "a process without its start"],
)
def test_a_folder_of_an_unknown_process_is_left_alone(tmpdir: Path, owner: str | None):
    """Of an older version, of another container, of something else."""
    folder = tmpdir / "plugvault-other"
    folder.mkdir()
    if owner is not None:
        (folder / ".owner").write_text(owner)
    assert temporary.remove_left(tmpdir, "plugvault-") == []
    assert folder.exists()


def test_a_file_in_the_folder_of_another_user_is_not_opened(
    tmpdir: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmpdir / "plugvault-other"
    folder.mkdir()
    os.mkfifo(folder / ".owner")  # a reader would wait for ever
    monkeypatch.setattr(temporary.os, "geteuid", lambda: os.getuid() + 1)
    looking = threading.Thread(
        target=temporary.remove_left, args=(tmpdir, "plugvault-"), daemon=True
    )
    looking.start()
    looking.join(10)
    assert not looking.is_alive()
    assert folder.exists()


def test_a_process_id_that_is_used_again_does_not_keep_a_folder(tmpdir: Path):
    folder = tmpdir / "plugvault-left"
    folder.mkdir()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    (folder / ".owner").write_text(f"{namespace} {os.getpid()} 1")
    assert temporary.remove_left(tmpdir, "plugvault-") == [folder]


def test_a_program_whose_name_is_cut_in_the_middle_of_a_character_has_folders(tmpdir: Path):
    name = "plugvault-prüfen".encode()[:13]
    script = f"open('/proc/self/comm', 'wb').write({name!r})\n{HOLDER}"
    ended = subprocess.run(
        [sys.executable, "-c", script], input="", capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    assert Path(ended.stdout.strip()).parent == tmpdir


@pytest.mark.parametrize("free, expected", [(1 << 20, None), (1 << 30, Path("/dev/shm"))])
def test_a_small_memory_is_not_used(
    monkeypatch: pytest.MonkeyPatch, free: int, expected: Path | None
):
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(temporary.shutil, "disk_usage", lambda folder: usage)
    assert temporary.memory(despite_tmpdir=True) == expected
