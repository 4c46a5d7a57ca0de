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
from plugvault.processes import ProcessError, ProcessEvent, Supervised

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


# Hangs in its start, or after it was asked to end, once its supervisor has gone.
HANGING = """
import sys, threading
from plugvault import processes
processes.GRACE = 0.2
sys.stdin.buffer.readline()
life = processes.LifeLine()
if sys.argv[1] == "at work":
    life.ready(lambda: None)
threading.Event().wait()
"""
# Ends as the processes of an ecosystem do: its stop is called from the life line.
OBEDIENT = """
import sys, threading
from plugvault import processes
sys.stdin.buffer.readline()
life = processes.LifeLine()
open(sys.argv[1], "w").close()
sys.stdin.buffer.read(0)
stop = threading.Event()
if sys.argv[2] == "late":
    while not life._is_cut:
        pass
life.ready(stop.set)
stop.wait()
"""
# Tells of a loop that fails, before it is ready, and of its end; with a line of a library.
FAILING = """
import sys
from plugvault import processes
sys.stdin.buffer.readline()
life = processes.LifeLine()
life.tell("failing", "deliveries", "no room")
life.ready(lambda: None)
print("a line\\xff of a library", flush=True)
life.tell("works", "deliveries", "")
life._watch()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "plugvault_test_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "plugvault_test_worker"


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


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


@pytest.mark.parametrize("when", ["in its start", "at work"])
def test_a_process_that_hangs_does_not_outlive_its_supervisor(when: str):
    child = subprocess.Popen(
        [sys.executable, "-c", HANGING, when], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin
    child.stdin.write(b"orders\n")
    child.stdin.close()
    assert child.wait(60) == 1
    assert child.stdout
    child.stdout.close()


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_process_ends_when_its_supervisor_was_killed_before_it_was_ready(
    tmp_path: Path, when: str
):
    """Nothing reads its "ready" any more."""
    mark = tmp_path / "started"
    child = subprocess.Popen(
        [sys.executable, "-c", OBEDIENT, mark, when],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin
    assert child.stdout
    child.stdout.close()
    child.stdin.write(b"orders\n")
    child.stdin.flush()
    eventually(mark.exists)
    child.stdin.close()
    assert child.wait(60) in (0, 120)  # 120: Python could not flush its stdout


def test_the_ends_of_a_process_are_told(
    module: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file = tmp_path / "orders"
    supervised = Supervised(module)
    supervised.start(str(file).encode())
    pid = supervised.pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervised.restarts == 1)
    supervised.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"{module} ({pid}) was ended by SIGKILL",
        f"{module} ({supervised.pid}) is there again",
    ]


def test_a_process_that_cannot_be_started_again_is_told(
    module: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    supervised = Supervised(module)
    supervised.start(str(tmp_path / "orders").encode())
    spawn, failures = supervised._spawn, [RuntimeError("can't start new thread"), OSError("full")]

    def fails_first() -> subprocess.Popen[bytes]:
        if failures:
            raise failures.pop(0)
        return spawn()

    monkeypatch.setattr(supervised, "_spawn", fails_first)
    os.kill(supervised.pid, signal.SIGKILL)
    eventually(lambda: supervised.restarts == 1)
    supervised.close()
    told = [record.getMessage() for record in caplog.records][1:3]
    assert told == [
        f"{module} does not start: can't start new thread",
        f"{module} does not start: full",
    ]


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


def test_the_observer_is_told_of_each_end_and_each_new_start(module: str, tmp_path: Path):
    events: list[ProcessEvent] = []

    def observe(event: ProcessEvent) -> None:
        events.append(event)
        raise RuntimeError("a bug of the observer")

    supervised = Supervised(module, observe=observe)
    try:
        supervised.start(str(tmp_path / "orders").encode())
        first = supervised.pid
        for restarts in (1, 2):
            os.kill(supervised.pid, signal.SIGKILL)
            eventually(lambda restarts=restarts: supervised.restarts == restarts)
            eventually(lambda restarts=restarts: len(events) == 2 * restarts)
    finally:
        supervised.close()
    assert [(event.name, event.restarts) for event in events] == [
        ("ended", 0), ("again", 1), ("ended", 1), ("again", 2),
    ]  # fmt: skip
    assert events[0].pid == first
    assert events[0].text == "was ended by SIGKILL"


def test_the_observer_is_told_of_a_loop_that_fails_inside_the_process(
    module: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / f"{module}.py").write_text(FAILING)
    events: list[ProcessEvent] = []
    supervised = Supervised(module, observe=events.append)
    try:
        supervised.start(b"")
        pid = supervised.pid
        eventually(lambda: len(events) == 2)
    finally:
        supervised.close()
    assert events == [
        ("failing", pid, 0, "no room", "deliveries"),
        ("works", pid, 0, "", "deliveries"),
    ]
    assert f"{module} ({pid}): a line" in caplog.text
