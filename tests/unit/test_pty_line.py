"""A serial line of this machine: its errors reach the caller, and its end is an end."""

from __future__ import annotations

import socket
import termios
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugvault import pty_line
from plugvault.emulated_board import BoardError, EmulatedBoard
from plugvault.pty_line import PtyLine


def test_an_error_of_the_open_reaches_the_caller_and_the_line_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_terminal() -> Any:
        raise OSError(28, "out of pty devices")

    with PtyLine(tmp_path / "usb") as line:
        with monkeypatch.context() as without:
            without.setattr(pty_line.pty, "openpty", no_terminal)
            with pytest.raises(OSError, match="out of pty devices"):
                line.open()
        line.open()
        assert line.is_open


@pytest.mark.parametrize(
    "error, kind",
    [
        (termios.error(5, "Input/output error"), OSError),
        (RuntimeError("a bug of the line"), RuntimeError),
    ],
)
def test_an_error_of_any_kind_in_the_open_reaches_the_caller_and_the_line_lives(
    error: Exception, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_raw_mode(descriptor: int) -> None:
        raise error

    told: list[Exception] = []

    def attempt(line: PtyLine) -> None:
        try:
            line.open()
        except (OSError, RuntimeError) as caught:
            told.append(caught)

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with PtyLine(tmp_path / "usb") as line:
        with monkeypatch.context() as broken:
            broken.setattr(pty_line.tty, "setraw", no_raw_mode)
            caller = threading.Thread(target=attempt, args=(line,), daemon=True)
            caller.start()
            caller.join(timeout=10)
        assert [(type(it), it.args) for it in told] == [(kind, error.args)]
        assert not line.is_open
        line.open()
        assert line.is_open
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_file_in_the_place_of_the_link_is_an_error_and_stays(tmp_path: Path):
    path = tmp_path / "usb"
    path.write_text("of another program")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with PtyLine(path) as line:
        with pytest.raises(FileExistsError):
            line.open()
        line.hang_up()
    assert path.read_text() == "of another program"
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_closed_line_refuses_requests_instead_of_waiting(tmp_path: Path):
    line = PtyLine(tmp_path / "usb")
    line.close()
    line.close()
    with pytest.raises(OSError, match="the line is closed"):
        line.open()


def test_an_emulated_board_whose_line_cannot_be_opened_tells_its_callers(tmp_path: Path):
    def no_terminal() -> None:
        raise OSError(28, "out of pty devices")

    board = EmulatedBoard(tmp_path / "flash.bin")
    board._control, emulators_end = socket.socketpair()
    board._changed, board._failure = threading.Condition(), None
    board._stderr = tmp_path / "stderr"
    board._stderr.write_text("its own words")
    board._usb = SimpleNamespace(open=no_terminal, is_open=False)  # type: ignore[assignment]
    reader = threading.Thread(target=board._read, daemon=True)
    reader.start()
    emulators_end.sendall(b'{"event": "usb-up"}\n')
    with pytest.raises(BoardError, match=r"died: out of pty devices\. its own words"):
        board.wait_for_serial_port(timeout=10)
    reader.join()
    emulators_end.close()
    board._control.close()
