"""The questions and options of `plugvault flash` on a terminal."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from evcc.vault import VaultError
from plugvault.board.configuration import BoardUart
from plugvault.board.errors import DeviceError
from plugvault.cli.flash import FlashOptions, FlashTerminal, flash, reported

QUESTION = "Which UART is free?"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The answers of a user at a terminal, to be filled by the test."""
    given: list[int] = []
    waiting: Iterator[int] = (given.pop(0) for _ in range(9))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(typer, "prompt", lambda *words, **options: next(waiting))
    return given


@pytest.mark.parametrize(
    "given, uart", [([3, 8, 9], BoardUart(3, 8, 9)), ([6, -1, -1], BoardUart(6))]
)
def test_user_at_a_terminal_is_asked_for_uart_and_pins(
    answers: list[int], given: list[int], uart: BoardUart
) -> None:
    answers += given
    assert FlashTerminal(False, agrees=False).choose_uart(QUESTION) == uart
    assert answers == []


def test_user_who_agrees_to_everything_is_not_asked_for_a_uart(answers: list[int]) -> None:
    assert FlashTerminal(False, agrees=True).choose_uart(QUESTION) is None


def test_script_without_a_terminal_is_not_asked_for_a_uart(
    answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert FlashTerminal(False, agrees=False).choose_uart(QUESTION) is None


def test_script_without_a_terminal_agrees_by_its_option_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    for as_json in (False, True):
        assert FlashTerminal(as_json, agrees=True).agree("Any board?")
        with pytest.raises(DeviceError, match=r"Any board\? .* say --yes"):
            FlashTerminal(as_json, agrees=False).agree("Any board?")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tx": 4}, "say --uart too"),
        ({"config": "c.json", "baud": 9600}, "--config says everything"),
        ({"config": "c.json", "uart": 1}, "--config says everything"),
        ({"erase_car": True, "erase_contracts": True}, "erases the contracts too"),
        ({"maker": "04"}, "65 bytes"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=f"config: .*{words}"):
        FlashOptions(**options).wishes()


@pytest.mark.parametrize(
    "error, reason, detail, line",
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/nope"),
            "io",
            "/proc/nope: No such file or directory",
            "io: /proc/nope: No such file or directory",
        ),
        (DeviceError("port", "none is there"), "port", "none is there", "port: none is there"),
        (VaultError("token-missing"), "token-missing", "token-missing", "token-missing"),
    ],
)
def test_error_of_a_command_is_in_words_and_without_numbers_of_python(
    error: Exception,
    reason: str,
    detail: str,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for as_json in (True, False):
        with pytest.raises(typer.Exit), reported(as_json):
            raise error
    output = capsys.readouterr()
    assert json.loads(output.out) == {"error": {"reason": reason, "detail": detail}}
    assert output.err == f"{line}\n"


def test_help_says_the_exit_status_of_a_dry_run_too() -> None:
    text = " ".join((flash.__doc__ or "").split())
    assert re.search("Exits 0 [^.;]* dry run", text)
