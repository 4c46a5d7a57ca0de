"""No command passes a peer's control characters on to the terminal of its user."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from evcc.vault import VaultError
from plugvault.board.errors import DeviceError
from plugvault.cli import board, customer, demo, flash, requests, vault
from plugvault.cli.ecosystem import common
from plugvault.cli.flash import FlashTerminal
from plugvault.cli.station.view import LiveView
from plugvault.cli.vehicle.view import TerminalView
from plugvault.roles.client import OpcpError
from plugvault.station.events import Authorized, Message
from plugvault.station.reports import Connected, Ended, TurnedAway

# A terminal's reset, the title by a 7-bit and an 8-bit OSC, a backspace, and markup of Rich.
EVIL = "\x1bc \x1b]0;owned\x07 \x9d0;owned\x9c \b [blink]text[/]"


def shown(use: Callable[[Console], object]) -> str:
    out = io.StringIO()
    use(Console(file=out, width=250, highlight=False))
    return out.getvalue()


def of_a_vehicle(console: Console) -> None:
    view = TerminalView(console, True, "")
    names = ("pcid", "runtime", "address", "contract")
    view.ready(dict.fromkeys(names, EVIL))
    view.observe("log", "", EVIL)
    view.observe("event", "failed", EVIL)
    view.over({"ok": True, "authorized": EVIL})
    view.over({"ok": False, "reason": EVIL, "log": [EVIL]})


def of_a_station(console: Console) -> None:
    view = LiveView(console, "")
    view.searched(EVIL, True, True)
    view.report(0, TurnedAway(EVIL, 4))
    for report in (
        Connected(EVIL),
        Message("in", EVIL, 1),
        Authorized(EVIL, b"", "", 0, 0),
        Ended(EVIL, False),
    ):
        view.report(1, report)
    console.print(view._table())


def of_the_demo(console: Console) -> None:
    demo._show_error(console, {"log": [EVIL], "error": EVIL})


def of_flash(console: Console) -> None:
    terminal = FlashTerminal(False, True)
    terminal._console = console
    terminal.step("board", EVIL)


@pytest.mark.parametrize("use", [of_a_vehicle, of_a_station, of_the_demo, of_flash])
def test_words_of_a_peer_are_text_in_the_view(use: Callable[[Console], None]) -> None:
    output = shown(use)
    assert output.count("[blink]text[/]") == output.count("owned") // 2 > 0
    assert [c for c in output if not c.isprintable() and c != "\n"] == []


def ending(command: Callable[[], object]) -> str:
    """The output of a command."""
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, []).output


def error_of_a_board() -> None:
    with flash.reported(False):
        raise DeviceError("script", EVIL)


def status_of_a_board() -> None:
    board.status()


def error_of_a_token() -> None:
    with vault._explained():
        raise VaultError("unavailable", EVIL)


def answer_of_a_server() -> None:
    request = SimpleNamespace(title=EVIL, expect="200")
    outcome: Any = SimpleNamespace(request=request, ok=False, status=500, text=EVIL)
    requests._print(Path("file.http"), outcome, False)


def error_of_an_ecosystem() -> None:
    context: Any = SimpleNamespace(obj=SimpleNamespace(as_json=False))
    common.print_done(context, EVIL)


@pytest.mark.parametrize(
    "command",
    [
        error_of_a_board,
        status_of_a_board,
        error_of_a_token,
        answer_of_a_server,
        error_of_an_ecosystem,
    ],
)
def test_words_of_a_peer_are_text_in_the_output(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def bench(*_: object) -> Iterator[Any]:
        answer = {"runtime": EVIL, "pcid": EVIL, "contracts": []}
        yield SimpleNamespace(status=lambda: answer, board=SimpleNamespace(machine=EVIL))

    monkeypatch.setattr(board, "_bench", bench)
    output = ending(command)
    assert "owned" in output
    assert [c for c in output if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize("is_refused", [True, False])
def test_words_of_an_ecosystem_are_text_for_its_customer(
    is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = SimpleNamespace(emaid=EVIL, provider=EVIL, valid_to=EVIL, default=True)

    def view(*_: object) -> Any:
        if is_refused:
            raise OpcpError("refused", EVIL, 500)
        return SimpleNamespace(pcid=EVIL, contracts=[contract])

    monkeypatch.setattr(customer, "OpcpClient", lambda *_: nullcontext())
    monkeypatch.setattr(customer, "VehicleMaker", MagicMock())
    monkeypatch.setattr(customer, "view", view)
    monkeypatch.setenv(customer.VARIABLE, "secret")
    output = ending(lambda: customer.customer("PVTP0000000000001", "http://localhost", "client"))
    assert "owned" in output
    assert [c for c in output if not c.isprintable() and c != "\n"] == []
