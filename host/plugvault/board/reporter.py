"""The progress and the questions of a run, as a terminal, a script or a test has them."""

from contextlib import AbstractContextManager
from typing import Protocol

from plugvault.board.configuration import BoardUart
from plugvault.board.ports import SerialPort


class Reporter(Protocol):
    """Shows the work to a user or a script, and asks questions."""

    def step(self, name: str, text: str) -> None:
        """Report a finished step. name: a word; text: its result."""

    def during(self, name: str, text: str) -> AbstractContextManager[None]:
        """Report a step that may take seconds or minutes, until the context ends. No question is
        asked inside it."""

    def warn(self, text: str) -> None:
        """Report a risk, or the state that an interrupted run leaves."""

    def file(self, path: str, done: int, total: int) -> None:
        """Report a copied file. done, total: bytes."""

    def agree(self, question: str) -> bool:
        """Whether the user agrees."""

    def choose_port(self, question: str, found: list[SerialPort]) -> str | None:
        """The user's choice of a port; None without one."""

    def choose_uart(self, question: str) -> BoardUart | None:
        """The user's choice of a UART of the board; None without one."""
