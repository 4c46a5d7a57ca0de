"""A serial line of this machine: its errors reach the caller, and its end is an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugvault import pty_line
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
