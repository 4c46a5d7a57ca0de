"""A campaign that its user stops: what has been tried is reported, and no process stays."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from plugvault.campaign.adapters import CalledModule, open_module
from plugvault.campaign.vocabulary import Json
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.cli import campaign as cli
from plugvault.cli.app import main

NOW = 1_790_000_000
SECONDS = 180  # for a process, on a machine full of work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    certificate = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)
    made = tmp_path_factory.mktemp("cases")
    files.make(made, certificate.certificate, catalogue.select("EN-00[1-4]"), 1, NOW)
    return made


def stopped_at(number: int, end: Callable[[], object] = lambda: None) -> CalledModule:
    """A module during whose message of this number, from 1, the user presses Ctrl-C."""
    messages = iter(range(1, 1000))

    def answer(request: Json) -> Json:
        if request["op"] == "install" and next(messages) == number:
            raise KeyboardInterrupt
        return {"v": 1, "module": "M", "can": [], "verdict": "accepted"}

    return CalledModule(answer, end)


def command(folder: Path, out: Path, *arguments: object) -> int:
    reports = [f"--{form}={out / form}" for form in ("html", "junit", "json")]
    module = [] if "--module" in arguments else ["--module", "py:x:y"]
    words = ["campaign", folder, *module, *arguments, *reports]
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)


def check_reports(out: Path, tried: int) -> None:
    """All three say what has been tried, and what has not."""
    document = json.loads((out / "json").read_text())
    assert len(document["cases"]) == tried
    untried = document["not_tried"]
    assert [*(case["id"] for case in document["cases"]), *untried] == [
        f"EN-00{number}" for number in range(1, 5)
    ]
    words = f"not tried: {len(untried)}"
    assert document["sentence"].startswith(f"Stopped by the user, {words}. ")
    assert "as expected" not in document["sentence"]
    page = (out / "html").read_text()
    assert page.count(words) == 2
    assert 'class="sentence bad"' in page
    assert ", ".join(untried) in page
    errors = ET.fromstring((out / "junit").read_bytes()).findall("testsuite/testcase/error")
    assert [error.get("message") for error in errors] == [words]


@pytest.mark.parametrize("tried", [0, 2, 3])
def test_the_reports_of_a_stopped_campaign_have_what_has_been_tried(
    tried: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stopped_at(3 * tried + 2)  # three messages in a case
    monkeypatch.setattr(cli, "open_module", lambda *arguments: module)
    assert command(folder, tmp_path) == 130
    check_reports(tmp_path, tried)


def test_a_second_interrupt_ends_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    module = stopped_at(5, end=interrupted)
    monkeypatch.setattr(cli, "open_module", lambda *arguments: module)
    assert command(folder, tmp_path) == 130
    assert list(tmp_path.iterdir()) == []


WAITS = """import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
messages = 0
for line in sys.stdin:
    messages += '"install"' in line
    if messages == 5:
        with open(sys.argv[1], "w") as file:
            print(os.getpid(), file=file, flush=True)
        signal.pause()
    print('{"v": 1, "verdict": "accepted"}', flush=True)
"""


def waiting(tmp_path: Path) -> tuple[Path, str]:
    """(a FIFO that has the module's process id, when it waits in its fifth message; the module)"""
    program, fifo = tmp_path / "module.py", tmp_path / "fifo"
    program.write_text(WAITS)
    os.mkfifo(fifo)
    return fifo, f"lines:{shlex.join([sys.executable, str(program), str(fifo)])}"


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_ctrl_c_ends_the_module_and_writes_the_reports(folder: Path, tmp_path: Path) -> None:
    """With a module that goes on after SIGTERM."""
    fifo, module = waiting(tmp_path)
    words: list[Any] = ["campaign", folder, "--module", module, "--timeout", SECONDS]
    words += [f"--{form}={tmp_path / form}" for form in ("html", "junit", "json")]
    line = [sys.executable, "-m", "plugvault.cli.app", *map(str, words)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        waits = int(fifo.read_text())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not is_alive(waits)
    check_reports(tmp_path, 1)


# Reads nothing and ignores SIGTERM, as a command of another maker may.
DEAF = """import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("kind", ["exec", "lines"])
def test_no_command_outlives_a_killed_campaign(folder: Path, tmp_path: Path, kind: str) -> None:
    """Nor a process that the command has started."""
    program, fifo = tmp_path / "module.py", tmp_path / "fifo"
    program.write_text(DEAF)
    os.mkfifo(fifo)
    module = f"{kind}:{shlex.join([sys.executable, str(program), str(fifo)])}"
    module += " {message}" if kind == "exec" else ""
    words = ["campaign", folder, "--module", module, "--timeout", SECONDS]
    line = [sys.executable, "-m", "plugvault.cli.app", *map(str, words)]
    with subprocess.Popen(line, stderr=subprocess.PIPE) as process:
        pids: list[int] = []
        while len(pids) < 2:
            pids += [int(word) for word in fifo.read_text().split()]
        process.kill()
        process.communicate(timeout=SECONDS)
    deadline = time.monotonic() + 20
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def runs(process: int) -> bool:
    """Whether a process runs; one that nothing has waited for does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_command_that_plugs_a_vehicle_in_does_not_outlive_a_killed_campaign(
    tmp_path: Path,
) -> None:
    program, fifo = tmp_path / "plug.py", tmp_path / "fifo"
    program.write_text(DEAF.replace("child = os.fork()\n", ""))
    os.mkfifo(fifo)
    words = [sys.executable, str(program), str(fifo)]
    script = f"""import sys
from plugvault.campaign.station_adapter import Command
Command({words!r})("case")
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        pid = int(fifo.read_text())
        process.kill()
    deadline = time.monotonic() + 20
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = runs(pid)
    if left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_module_ends_after_a_second_interrupt_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo, address = waiting(tmp_path)
    module = open_module(address, SECONDS)
    module.hello()
    for _ in range(4):
        module.install(b"")

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return wait(self)
        raise KeyboardInterrupt

    wait = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    module._send.write(b'{"op": "install"}\n')  # type: ignore[attr-defined]
    module._send.flush()  # type: ignore[attr-defined]
    waits = int(fifo.read_text())
    with pytest.raises(KeyboardInterrupt):
        module.close()
    assert not is_alive(waits)
