"""`make releases`: what it says where it cannot work, and what it takes along of a machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools/other_releases"


@pytest.fixture(scope="module")
def machine() -> ModuleType:
    spec = importlib.util.spec_from_file_location("machine", TOOL / "machine.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_missing_tools_and_skipped_releases_are_named(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, TOOL, "trixie"],
        env={**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    for requirement in ("debootstrap", "git", "a mirror", "the right to mount"):
        assert f"this machine lacks {requirement}" in ended.stdout
    assert "NOT tried: trixie" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_settings_of_this_machine_s_pip_go_along(
    machine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate is copied; of an index the folder that holds its files too is to be seen."""
    index, certificate = tmp_path / "index/simple", tmp_path / "ca.pem"
    index.mkdir(parents=True)
    certificate.write_text("a certificate")
    file = tmp_path / "pip.conf"
    file.write_text(
        f"[global]\ncert = {certificate}\nextra-index-url =\n  file://{index}\n  http://a\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    root = tmp_path / "root"
    (root / "etc/apt/apt.conf.d").mkdir(parents=True)
    assert tmp_path / "index" in machine.put_settings(root)
    assert (root / certificate.relative_to("/")).read_text() == "a certificate"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(root / "etc/pip.conf"))
    again = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    assert f"global.cert='{certificate}'" in again.stdout
    assert f"file://{index}" in again.stdout


def test_the_later_of_two_pip_settings_counts(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "global.cert='/first'\nglobal.timeout='9'\nglobal.cert='/second'\n"
    monkeypatch.setattr(machine, "_output", lambda *command: settings)
    assert machine._pip_settings() == "[global]\ncert = /second\ntimeout = 9\n"


def test_commands_in_the_other_release_fail_loudly(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/here")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("PLUGVAULT_PIN", "not for others")
    inside = machine.environment()
    assert inside["CI"] == "1"
    assert inside["PIP_FIND_LINKS"] == "/here"
    assert inside["https_proxy"] == "http://proxy"
    assert "PLUGVAULT_PIN" not in inside


def test_the_way_npm_fetches_goes_along_and_its_folders_do_not(
    machine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of this machine would hide the other release's own."""
    user, system = tmp_path / "user", tmp_path / "system"
    user.write_text("registry=https://mirror.example/\nnodedir=/usr\n")
    system.write_text("cafile=/etc/ca.pem\nprefix=/opt\n")
    monkeypatch.setattr(machine, "NPM", (user, system, tmp_path / "missing"))
    assert machine._npm_settings() == "cafile=/etc/ca.pem\nregistry=https://mirror.example/\n"
