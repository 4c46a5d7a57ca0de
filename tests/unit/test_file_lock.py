"""Locks between processes: one holder at a time, and free again after any end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fixtures.open_files import open_files
from plugvault import file_lock


@pytest.fixture(params=["file", "folder"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path if request.param == "folder" else tmp_path / "lock"


def test_second_holder_is_refused_until_the_first_ends(path: Path) -> None:
    with file_lock.locked(path), pytest.raises(TimeoutError):
        file_lock.acquire(path, timeout=0)
    os.close(file_lock.acquire(path, timeout=0))


def test_waiting_ends_after_the_timeout(path: Path) -> None:
    with file_lock.locked(path), pytest.raises(TimeoutError), file_lock.locked(path, 0.02):
        pass


def test_error_inside_releases_the_lock(path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), file_lock.locked(path):
        raise ValueError("inside")
    os.close(file_lock.acquire(path, timeout=0))


def test_refused_lock_leaves_no_descriptor_open(path: Path) -> None:
    with file_lock.locked(path):
        before = open_files()
        with pytest.raises(TimeoutError):
            file_lock.acquire(path, timeout=0)
        assert open_files() <= before


def test_link_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="lock"):
        file_lock.acquire(tmp_path / "lock")
    assert not (tmp_path / "target").exists()


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    with file_lock.locked(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_a_long_wait_is_told_once(
    path: Path,
    timeout: float | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(file_lock, "SILENCE", 0.05)
    held = file_lock.acquire(path)
    threading.Timer(0.4, os.close, (held,)).start()
    with file_lock.locked(path, timeout):
        assert caplog.messages == [f"another process holds {path}: waiting for its end"]
