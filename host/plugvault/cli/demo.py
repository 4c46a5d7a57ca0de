"""`plugvault demo`: Plug & Charge from the first key to a session, on a terminal or as JSON."""

from __future__ import annotations

import json
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from evcc.errors import EvccError
from plugvault.cli import words
from plugvault.cli.folders import stoppable
from plugvault.cli.table import literal
from plugvault.cli.tokens import TokenOptions, names_a_token
from plugvault.demo import show
from plugvault.demo.board import SIMULATED
from plugvault.demo.record import DemoError, DemoRecord
from plugvault.demo.walkthrough import Walkthrough, choose_runtime
from plugvault.printable import printable_lines
from plugvault.temporary import temporary_folder
from plugvault.tokens.selection import choose


class RuntimeName(StrEnum):
    cpython = "cpython"
    micropython = "micropython"


class LinkName(StrEnum):
    tcp = "tcp"
    serial = "serial"


@names_a_token
def demo(
    token_options: TokenOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run as JSON.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every message and every check.")
    ] = False,
    runtime: Annotated[
        RuntimeName | None,
        typer.Option(
            help="Interpreter of the car's module. Default: MicroPython if there is one."
        ),
    ] = None,
    link: Annotated[
        LinkName | None,
        typer.Option(help="Wire between the car and the host. Default: serial."),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            help="Use a board as the car: the port of its prompt, or `simulated` for an emulated"
            " Pico. It gets its own configuration and contracts back.",
            metavar="PORT",
        ),
    ] = None,
    board_link: Annotated[
        str | None,
        typer.Option(help="The port of the board's link.", metavar="PORT"),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep tokens, database and captured messages in this new folder."),
    ] = None,
) -> None:
    """Make a car with two contracts, one over the air and one at a station, and charge with each.

    Exits 0 when every step was verified, else 1.

    With --token the car's keys are in a token of your own. It must hold no car's keys, and holds
    none after the run.
    """
    _check_board(board, board_link, runtime or link)
    if keep:
        keep = _new_folder(keep)
    console = Console(stderr=as_json)
    record = DemoRecord(None if as_json else show.Terminal(console, verbose))
    ports = (board, board_link) if board else None
    error = _run(record, (runtime, link or LinkName.serial, ports), keep, token_options)
    data = record.as_data()
    if keep:
        data["kept"] = str(keep)
    if error:
        data.update(ok=False, error=error)
    if as_json:
        print(json.dumps(data, indent=1))
    elif error:
        _show_error(console, data)
    else:
        show.summary(console, data)
    raise typer.Exit(0 if data["ok"] else 1)


def _check_board(board: str | None, board_link: str | None, of_a_process: object) -> None:
    """Refuse options that would have no effect. Raises: typer.BadParameter."""
    if board is not None and of_a_process is not None:
        raise typer.BadParameter(
            "a board has its own interpreter and line: no --runtime and no --link with --board."
            " --board-link names the port of its link"
        )
    if board_link is not None and board in (None, SIMULATED):
        raise typer.BadParameter("--board-link is the link of a board: say --board PORT, too")


def _run(
    record: DemoRecord,
    car: tuple[RuntimeName | None, LinkName, tuple[str, str | None] | None],
    keep: Path | None,
    token_options: TokenOptions,
) -> str | None:
    """Run the demo into `record`. Returns the text of its error, or None."""
    runtime, link, board = car
    try:
        interpreter = choose_runtime(runtime.value if runtime else None)
        with (
            stoppable(),
            temporary_folder() as temporary,
        ):
            folder = keep or temporary
            selection = choose(*token_options)
            Walkthrough(
                record, interpreter, link.value, folder, bool(keep), selection, board
            ).run()
    except Exception as e:  # noqa: BLE001 - `--json` prints data after any error
        if not isinstance(e, DemoError | EvccError | OSError):
            traceback.print_exc()
            return f"{type(e).__name__}: {e}"
        return words.of(e)
    return None


def _show_error(console: Console, data: dict[str, Any]) -> None:
    for line in data.get("log", [])[-5:]:
        console.print(f"the car's log: {literal(line)}", style="dim", highlight=False)
    console.print(escape(printable_lines(data["error"])), style="red", highlight=False)
    console.print("If something is missing on this machine, `plugvault doctor` names it.")


def _new_folder(folder: Path) -> Path:
    """Make the folder of `--keep`. Refuse one with files: another run's, or the user's own."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise typer.BadParameter(
                f"{folder} is not empty: name a new folder", param_hint="--keep"
            )
    except OSError as e:
        raise typer.BadParameter(
            f"{folder}: {e.strerror}: name a new folder", param_hint="--keep"
        ) from e
    return folder.resolve()
