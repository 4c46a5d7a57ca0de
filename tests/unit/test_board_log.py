"""`plugvault board log` and `simulate` end with their line, their emulator, their reader."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from evcc.link.line import Line
from evcc.link.mux import LOG, Mux
from evcc.ports import clock
from evcc.ports.stream import of_socket
from fixtures.unix_board import PICO
from plugvault.board import simulated
from plugvault.board.bench import BoardBench
from plugvault.board.folder import Boards
from plugvault.cli import board as board_command
from plugvault.emulated_board import BoardError, EmulatedBoard
from plugvault.link.bench import Bench


class Module:
    """The module at the other end of a line."""

    def __init__(self) -> None:
        self.near, self._far = socket.socketpair()
        self._line = Line(of_socket(self._far), Mux(1), clock.ticks_ms)

    def log(self, *texts: str) -> None:
        """Send lines of the log, and wait until the other end has them."""
        for text in texts:
            self._line.send(LOG, text.encode())
        while not self._line.mux.idle():
            self._line.pump(10)

    def close(self) -> None:
        self._far.close()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """The module of the board of the command."""
    module = Module()

    @contextlib.contextmanager
    def bench(board: object, observe: Callable[[str, str], None], answer: float) -> Iterator[Any]:
        with Bench(of_socket(module.near), observe) as line:
            yield SimpleNamespace(bench=line)

    monkeypatch.setattr(board_command, "_board", lambda port, link, data: None)
    monkeypatch.setattr(board_command, "BoardBench", bench)
    yield module
    module.close()


def test_lines_are_shown_until_the_time_is_over(module: Module) -> None:
    sender = threading.Thread(target=module.log, args=("one", "two"))
    sender.start()
    result = CliRunner().invoke(board_command.app, ["log", "--json", "--seconds", "2"])
    sender.join()
    assert result.exit_code == 0
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["one", "two"]
    assert result.stderr == ""


def test_time_without_a_line_is_told_with_the_next_step_and_not_on_stdout(module: Module) -> None:
    result = CliRunner().invoke(board_command.app, ["log", "--json", "--seconds", "0.2"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("No line came. `plugvault board status` asks")


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "json"])
def test_line_that_is_lost_ends_the_command_with_its_words_after_the_last_lines(
    module: Module, arguments: list[str]
) -> None:
    def end() -> None:
        module.log("the last line")
        module.close()

    sender = threading.Thread(target=end)
    sender.start()
    began = time.monotonic()
    result = CliRunner().invoke(board_command.app, ["log", "--seconds", "30", *arguments])
    sender.join()
    assert time.monotonic() - began < 15
    assert result.exit_code == 1
    first, last = result.output.splitlines()
    assert "the last line" in first
    if arguments:
        assert json.loads(last)["error"]["reason"] == "lost"
    else:
        assert last.startswith("lost: ")


CLOSED = """
import contextlib, threading, time
from types import SimpleNamespace
from plugvault.cli import app, board

@contextlib.contextmanager
def bench(_, observe, answer):
    def chatter():
        while True:
            observe("log", "a line")
            time.sleep(0.01)
    threading.Thread(target=chatter, daemon=True).start()
    yield SimpleNamespace(bench=SimpleNamespace(failure=None))

board._board = lambda *_: None
board.BoardBench = bench
raise SystemExit(app.main(["board", "log", "--seconds", "30"]))
"""


def test_closed_stdout_ends_the_command_without_a_word() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLOSED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "log    a line\n"
        began = time.monotonic()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert time.monotonic() - began < 20


def test_adapter_that_is_unplugged_is_named_without_numbers_of_the_system(
    tmp_path: Path, softhsm: Path
) -> None:
    master, slave = pty.openpty()
    link = os.ttyname(slave)
    board = Boards(tmp_path).make(PICO).save(link=link)
    with BoardBench(board, answer=0) as bench:
        os.close(slave)
        os.close(master)
        end = time.monotonic() + 10
        while bench.bench.failure is None and time.monotonic() < end:
            time.sleep(0.01)
        error = f"lost: {link}: the line has ended. Is the adapter still plugged in?"
        assert str(bench.bench.failure) == error


def test_emulator_that_ends_by_itself_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated = EmulatedBoard(tmp_path / "flash.bin")
    emulated._changed, emulated._failure = threading.Condition(), None
    emulated._usb = emulated._uart = SimpleNamespace(path="/dev/pts/9")  # type: ignore[assignment]

    @contextlib.contextmanager
    def board(flash: Path, new: bool) -> Iterator[EmulatedBoard]:
        yield emulated

    def die() -> None:
        time.sleep(0.2)
        with emulated._changed:
            emulated._failure = BoardError("died", "out of memory")
            emulated._changed.notify_all()

    def no_sleep(seconds: float) -> None:
        raise AssertionError("it sleeps on")

    monkeypatch.setattr(simulated, "board", board)
    dying = threading.Thread(target=die)
    dying.start()
    monkeypatch.setattr(board_command, "time", SimpleNamespace(sleep=no_sleep))
    arguments = ["simulate", "--empty", "--data", str(tmp_path)]
    result = CliRunner().invoke(board_command.app, arguments)
    dying.join()
    assert result.exit_code == 1
    assert result.stderr == "died: out of memory\n"
