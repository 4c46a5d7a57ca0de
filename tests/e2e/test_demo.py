"""`plugvault demo`, as a newcomer runs it: on every interpreter, over both links."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evcc import exi
from fixtures.disks import on_read_only
from plugvault import runtimes
from plugvault.car import Car
from plugvault.cli import demo as command
from plugvault.cryptoki.backend import open_vault
from plugvault.demo import walkthrough
from plugvault.demo.record import DemoError, DemoRecord
from plugvault.demo.walkthrough import Walkthrough
from plugvault.tokens import find_module

ROOT = Path(__file__).parents[2]
STEPS = ["tokens", "pki", "backend", "factory", "contract", "station", "air"]
STEPS += ["charge 1", "charge 2"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plugvault.cli.app", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check(data: dict[str, Any]) -> None:
    """The parts of a run that says "ok"."""
    assert data["ok"], data.get("error")
    assert [step["name"] for step in data["steps"]] == STEPS
    assert all(step["verified"] and step["checks"] for step in data["steps"])
    paths = {contract["path"]: contract for contract in data["contracts"]}
    assert set(paths) == {"at the station", "over the air"}
    assert {c["operator"] for c in paths.values()} == {"Operator A", "Operator B"}
    assert [c["active"] for c in data["contracts"]].count(True) == 1
    assert {k["custody"] for k in data["keys"]} == {"L3", "L1+"}
    assert all(wire["sent"] > 0 and wire["received"] > 0 for wire in data["wires"])
    messages_ = [moved["message"] for step in data["steps"] for moved in step["moved"]]
    assert messages_.count("CertificateInstallationRes") == 2
    assert messages_.count("AuthorizationReq") == 3


@pytest.mark.parametrize("link", ["serial", "tcp"])
@pytest.mark.parametrize("name", ["cpython", "wheel", "debian"])
def test_the_demo_installs_two_contracts_and_pays_with_each(
    name: str, link: str, tmp_path: Path
) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    record = DemoRecord()
    Walkthrough(record, runtime, link, tmp_path).run()
    data = record.as_data()
    check(data)
    assert data["runtime"].startswith(name)
    assert data["vault"] == ("token" if runtime.has_ffi else "service")


def test_json_is_the_whole_output_and_keep_keeps_the_named_files(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    ended = run("--json", "--keep", str(folder))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    data = json.loads(ended.stdout)
    check(data)
    assert data["kept"] == str(folder)
    assert (folder / "ecosystem" / "ecosystem.sqlite").stat().st_size > 0
    assert list((folder / "car-token" / "tokens").iterdir())
    captures = sorted(path.name for path in (folder / "captures").iterdir())
    assert captures == [
        "1-CertificateInstallationReq.exi",
        "2-CertificateInstallationRes.exi",
        "3-CertificateInstallationRes-over-the-air.exi",
    ]
    for name in captures:
        assert "V2G_Message" in exi.decode((folder / "captures" / name).read_bytes())
    pins = folder / "pins.json"
    assert pins.stat().st_mode & 0o777 == 0o600
    open_vault(find_module(), folder / "car-token" / "softhsm2.conf", "car", pin_of(pins)).close()
    for name in captures[1:]:
        report = inspect(folder / "captures" / name, folder / "roots.pem")
        assert report["ok"], report
        unchecked = [c for c in report["checks"] if c["verdict"] != "ok"]
        assert {c["verdict"] for c in unchecked} == {"not checked"}
        without_pools = [c["check"] for c in unchecked if c["detail"] != "needs the pools"]
        assert without_pools == ["private key belongs to the contract certificate"]


def pin_of(pins: Path) -> str:
    pin: str = json.loads(pins.read_text(encoding="utf-8"))["car"]
    return pin


def inspect(file: Path, roots: Path) -> dict[str, Any]:
    arguments = ["inspect", "--json", str(file), "--trust", str(roots)]
    ended = subprocess.run(
        [sys.executable, "-m", "plugvault.cli.app", *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    app = command.typer.Typer()
    app.command()(command.demo)
    for folder in (tmp_path, tmp_path / "mine"):
        ended = CliRunner().invoke(app, ["--keep", str(folder)])
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert "name a new folder" in ended.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "plugvault.cli.app", "demo", "--runtime", "cpython"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"},
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout
        while "4. A car is born" not in process.stdout.readline():
            assert process.poll() is None
        assert len(running_in(tmp_path)) > 1
        os.killpg(process.pid, number)
        process.stdout.read()
        errors = process.stderr.read() if process.stderr else ""
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def running_in(folder: Path) -> list[bytes]:
    """The command lines of processes that work in a folder."""
    command_lines = []
    for seen in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            if bytes(folder) in (seen / "environ").read_bytes():
                command_lines.append((seen / "cmdline").read_bytes())
    return command_lines


def test_output_has_each_step_with_its_result_and_the_summary() -> None:
    ended = run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    steps, tables = ended.stdout.split("Contracts in the car")
    lines = steps.strip().splitlines()
    assert [line[:4] for line in lines[::2]] == [f"✓ {n}." for n in range(1, len(STEPS) + 1)]
    assert all(line.startswith("    · ") for line in lines[1::2])
    for text in ("Private keys", "L1+", "Bytes on each wire", "steps verified"):
        assert text in tables


def test_a_read_only_checkout_that_is_set_up_runs_make_demo() -> None:
    if not (ROOT / ".venv/bin/plugvault").exists():
        pytest.skip("this checkout has no .venv of its own")
    script = '! touch probe 2>/dev/null && make demo ARGS="--runtime cpython"'
    ended = subprocess.run(
        on_read_only(ROOT, "sh", "-c", script),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "it is used as it was set up" in ended.stdout
    assert f"All {len(STEPS)} steps verified" in ended.stdout


def test_verbose_output_has_every_message_and_every_check() -> None:
    ended = run("--verbose")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for text in ("car → station", "CertificateInstallationRes", "the car checked", "one session"):
        assert text in ended.stdout


def test_a_demo_with_an_unexpected_result_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A car that authorizes with nothing: the run ends there, says so, and exits 1."""
    monkeypatch.setattr(Car, "charge", lambda *args, **kwargs: [], raising=False)
    monkeypatch.setattr(walkthrough.Walkthrough, "_check_installed", lambda *args: None)
    original = Car.__enter__

    def enter(self: Car) -> Car:
        car = original(self)
        monkeypatch.setattr(car, "charge", lambda *args, **kwargs: [], raising=False)
        return car

    monkeypatch.setattr(Car, "__enter__", enter)
    app = command.typer.Typer()
    app.command()(command.demo)
    ended = CliRunner().invoke(app, ["--json", "--runtime", "cpython"])
    assert ended.exit_code == 1
    data = json.loads(ended.stdout)
    assert data["ok"] is False
    assert "authorized" in data["error"]
    assert data["steps"][-1]["name"] == "station"
    assert data["steps"][-1]["verified"] is False


def test_a_step_that_checks_nothing_is_no_step() -> None:
    record = DemoRecord()
    with pytest.raises(DemoError, match="nothing was checked"), record.step("x", "Idle"):
        pass
    assert record.as_data()["ok"] is False


def test_without_micropython_the_error_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtimes, "get", lambda name: None)
    assert walkthrough.choose_runtime(None).name == "cpython"
    with pytest.raises(DemoError, match="make"):
        walkthrough.choose_runtime("micropython")
