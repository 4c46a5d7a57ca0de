"""The prompt of a board that resets, or is gone."""

from __future__ import annotations

import errno

import pytest
from mpremote.transport import TransportError
from serial import SerialException

from plugvault.board.errors import DeviceError
from plugvault.board.repl import Repl


class Port:
    """A transport at whose next script the port ends."""

    in_raw_repl = False

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.scripts: list[str] = []

    def enter_raw_repl(self, soft_reset: bool = False, timeout_overall: float = 1) -> None:
        self.in_raw_repl = True

    def exit_raw_repl(self) -> None:
        self.in_raw_repl = False

    def exec_raw_no_follow(self, command: str) -> None:
        self.scripts.append(command)
        raise self.error

    def close(self) -> None:
        pass


def prompt(port: Port) -> Repl:
    return Repl("tty", soft_reset=False, opened=lambda device: port)  # type: ignore[arg-type,return-value]


def test_port_that_ends_in_a_reset_is_the_reset() -> None:
    port = Port(SerialException("Input/output error"))
    with prompt(port) as repl:
        repl.reset()
    assert "machine.reset()" in port.scripts[0]


def test_port_that_ends_in_another_script_is_gone() -> None:
    with prompt(Port(SerialException("Input/output error"))) as repl:
        with pytest.raises(DeviceError) as refusal:
            repl.run("1")
        assert refusal.value.reason == "gone"


@pytest.mark.parametrize(
    "error, cause",
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (SerialException("write failed: [Errno 5] Input/output error"), "the port has ended"),
    ],
)
def test_cause_of_the_end_of_a_port_is_said_without_numbers_of_python(
    error: OSError, cause: str
) -> None:
    with prompt(Port(error)) as repl:
        with pytest.raises(DeviceError) as refusal:
            repl.run("1")
        assert refusal.value.detail == f"tty: {cause}. Plug the board in again"


def test_board_that_does_not_take_the_reset_is_silent() -> None:
    with prompt(Port(TransportError("could not exec command"))) as repl:
        with pytest.raises(DeviceError) as refusal:
            repl.reset()
        assert refusal.value.reason == "silent"
