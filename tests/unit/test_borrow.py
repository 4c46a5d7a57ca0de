"""The exclusive lease of a token among the processes of one user, and its lock files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evcc.vault import VaultError
from plugvault import runtimes
from plugvault.tokens import lease
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TokenConfiguration:
    """A token that has no keys of a car; `XDG_RUNTIME_DIR` is a folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(lease.subprocess_probe, "run", lambda *_, **__: None)
    location = {"module": "/lib.so", "conf": None, "label": "car", "options": ""}
    return TokenConfiguration(TokenLocation.from_json(location), "1234", "")


def unavailable(chosen: TokenConfiguration) -> str:
    with pytest.raises(VaultError) as caught, lease.exclusive_lease(chosen):
        pass
    assert caught.value.reason == "unavailable"
    return caught.value.detail


def test_a_second_process_waits_for_the_lease(chosen: TokenConfiguration):
    order = []

    def second() -> None:
        with lease.exclusive_lease(chosen):
            order.append("second")

    with lease.exclusive_lease(chosen):
        waits = threading.Thread(target=second)
        waits.start()
        waits.join(0.3)
        order.append("first")
    waits.join(10)
    assert order == ["first", "second"]


def test_a_wait_that_is_too_long_names_the_holder(
    chosen: TokenConfiguration, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lease, "TIMEOUT", 0.1)
    with lease.exclusive_lease(chosen):
        assert unavailable(chosen) == f"the token is in use by process {os.getpid()}, still"
    with lease.exclusive_lease(chosen):  # the next process gets the lease
        pass


def test_a_lock_is_free_when_its_process_is_gone(chosen: TokenConfiguration):
    code = (
        "import os; from plugvault.tokens import lease\n"
        "with lease._lock('x'): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with lease._lock("x"):
        pass


def test_the_folder_is_made_for_this_user_alone(chosen: TokenConfiguration, tmp_path: Path):
    before = os.umask(0)
    try:
        with lease.exclusive_lease(chosen):
            folder = tmp_path / "plugvault"
            assert folder.stat().st_mode & 0o777 == 0o700
            assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600]
    finally:
        os.umask(before)


def test_a_folder_that_others_may_enter_is_refused(chosen: TokenConfiguration, tmp_path: Path):
    folder = tmp_path / "plugvault"
    folder.mkdir()
    for mode in (0o701, 0o710, 0o777):
        folder.chmod(mode)
        assert "must be a folder of this user alone" in unavailable(chosen)


def test_a_folder_of_another_user_is_refused(
    chosen: TokenConfiguration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "plugvault").mkdir(mode=0o700)
    user_id = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    assert "set XDG_RUNTIME_DIR" in unavailable(chosen)


def test_a_link_to_a_folder_or_a_file_is_not_followed(chosen: TokenConfiguration, tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / "plugvault").symlink_to(target)
    assert "must be a folder of this user alone" in unavailable(chosen)
    (tmp_path / "plugvault").unlink()
    with lease.exclusive_lease(chosen):
        (lock,) = (tmp_path / "plugvault").iterdir()
    lock.unlink()
    lock.symlink_to(target / "made")
    assert "no folder for locks" in unavailable(chosen)
    assert list(target.iterdir()) == []


def test_without_a_runtime_folder_the_lock_is_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtimes.run_folder() == tmp_path / "plugvault" / "run"


# In a shared folder another user can create a guessable name first, as a link to another place
# or by a file of somebody else's. `tempfile` makes names that cannot, for their owner alone.
_SHARED = re.compile(r"[\"'](?:/tmp|/var/tmp|/dev/shm)/|gettempdir|\bmktemp\b(?! -d)|TMPDIR\}?/")


def test_no_shared_folder_gets_a_file_with_a_guessable_name():
    sources = [
        file
        for part in ("host/plugvault", "firmware", "tools", "softhsm", ".ci")
        for file in (ROOT / part).rglob("*")
        if file.is_file() and file.suffix in ("", ".py", ".sh", ".toml")
    ]
    assert len(sources) > 200
    uses = {
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in sources
        for line in file.read_text(errors="replace").splitlines()
        if _SHARED.search(line)
    }
    assert uses == {
        # How much room there is, nothing more.
        "host/plugvault/cli/doctor.py: folder = memory() or Path(tempfile.gettempdir())",
        # `TemporaryDirectory` makes the names in it.
        "host/plugvault/temporary.py: on_disk = Path(tempfile.gettempdir())",
    }
