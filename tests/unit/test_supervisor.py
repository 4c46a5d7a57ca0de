"""The ends of processes: without orders, at work, and while they are started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fixtures.open_files import open_files
from fixtures.sandbox import alive, eventually
from plugvault.ecosystem import process as ecosystem_process
from plugvault.processes import ProcessError, Supervised

# Notes its orders; is at work when its stdin ends, and comes to the end of that.
WORKER = """
import os, sys, time
orders = sys.stdin.readline().strip()
with open(orders, "a") as file:
    file.write(f"begun {os.getpid()}\\n")
print("ready", flush=True)
sys.stdin.read()
time.sleep(0.3)
with open(orders, "a") as file:
    file.write("done\\n")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "plugvault_test_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "plugvault_test_worker"


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("orders", [b"", b'{"work": "answer", "direc'], ids=["none", "half"])
def test_a_process_without_orders_ends_with_its_parent(orders: bytes):
    ended = subprocess.run(
        [sys.executable, "-m", ecosystem_process.__name__, "0"],
        input=orders,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_process_that_was_never_started_leaves_nothing_open(module: str):
    before = open_files()
    supervised = Supervised(module)
    pid = supervised.pid
    supervised.close()
    assert not alive(pid)
    assert open_files() <= before


def test_work_under_way_is_finished(module: str, tmp_path: Path):
    before, file = open_files(), tmp_path / "orders"
    supervised = Supervised(module)
    supervised.start(str(file).encode())
    supervised.close()
    assert [line.split()[0] for line in lines(file)] == ["begun", "done"]
    assert open_files() <= before


def test_a_process_that_restarts_repeatedly_leaves_nothing_open(module: str, tmp_path: Path):
    before, file = open_files(), tmp_path / "orders"
    supervised = Supervised(module)
    supervised.start(str(file).encode())
    for number in range(1, 4):
        os.kill(int(lines(file)[-1].split()[1]), signal.SIGKILL)
        eventually(lambda number=number: len(lines(file)) > number)
    supervised.close()
    assert len([line for line in lines(file) if line.startswith("begun")]) == 4
    assert open_files() <= before
    assert not alive(int(lines(file)[-2].split()[1]))


def test_a_process_that_does_not_get_ready_is_an_error_and_leaves_nothing_open(module: str):
    before = open_files()
    supervised = Supervised(module)
    with pytest.raises(ProcessError, match="before it was ready"):
        supervised.start(b"/nowhere/at/all")
    supervised.close()
    assert open_files() <= before


def test_a_process_stopped_during_its_restart_is_not_left_behind(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, failures = tmp_path / "orders", []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    supervised = Supervised(module)
    supervised.start(str(file).encode())
    spawn = supervised._spawn
    spawned = []

    def meanwhile() -> subprocess.Popen[bytes]:
        new = spawn()
        spawned.append(new)
        supervised._process = new
        supervised.ask_to_end()
        return new

    monkeypatch.setattr(supervised, "_spawn", meanwhile)
    os.kill(supervised.pid, signal.SIGKILL)
    eventually(lambda: spawned and spawned[0].poll() is not None)
    supervised.close()
    assert failures == []
    assert len(spawned) == 1
    assert not alive(spawned[0].pid)
