"""`plugvault flash`: the module onto a board."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evcc.errors import EvccError
from plugvault.board import configuration
from plugvault.board.configuration import BAUD, BoardUart
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards, default_folder
from plugvault.board.ports import SerialPort
from plugvault.cli import words
from plugvault.cli.folders import stoppable
from plugvault.cli.options import options_from
from plugvault.cli.waiting import waiting
from plugvault.printable import printable, printable_lines

Port = Annotated[
    str | None,
    typer.Argument(
        help="The serial port of the board's MicroPython prompt, or the number of its chip.",
        show_default="the only board",
    ),
]
LinkPort = Annotated[
    str | None,
    typer.Option(
        "--link",
        help="The serial port of the board's link. Default: the last one, or the only adapter.",
        metavar="PORT",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="The folder that keeps the boards' keys and their ecosystem, as `sandbox --data`"
        " does. Default: ~/.local/share/plugvault/boards.",
        envvar="PLUGVAULT_DATA",
        metavar="DIR",
        file_okay=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Agree to every question.")]


@dataclass(frozen=True)
class FlashOptions:
    """The options of the command."""

    port: Port = None
    link: LinkPort = None
    uart: Annotated[
        int | None, typer.Option(help="The board's UART for the link. Default: by its kind.")
    ] = None
    tx: Annotated[int | None, typer.Option(help="The UART's TX pin.", metavar="PIN")] = None
    rx: Annotated[int | None, typer.Option(help="The UART's RX pin.", metavar="PIN")] = None
    baud: Annotated[int, typer.Option(help="Bits a second of the link.", min=1200)] = BAUD
    maker: Annotated[
        str | None,
        typer.Option(help="The key of another maker: 65 bytes as hex.", metavar="HEX"),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="A config.json of your own. Name and key_file of its vault may be left out.",
            metavar="FILE",
        ),
    ] = None
    firmware: Annotated[
        Path | None,
        typer.Option(help="Write this MicroPython first: .uf2 (RP2040, RP2350) or .bin (ESP)."),
    ] = None
    erase_contracts: Annotated[
        bool,
        typer.Option(
            "--erase-contracts", help="Erase the board's contracts and their keys; asks first."
        ),
    ] = False
    erase_car: Annotated[
        bool,
        typer.Option(
            "--erase-car",
            help="Erase the board's car: certificate, contracts, trust anchors, time, and its keys"
            " in the token here; asks first.",
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False
    data: Data = None
    yes: Yes = False
    as_json: AsJson = False

    def wishes(self) -> Wishes:
        """The options of one run of `Flash`. Raises: DeviceError("config")."""
        if self.uart is None and (self.tx is not None or self.rx is not None):
            raise DeviceError("config", "--tx and --rx are pins of a UART: say --uart too")
        if self.config and (self.maker or self.uart is not None or self.baud != BAUD):
            raise DeviceError(
                "config", "--config says everything: no --maker, --uart, --baud with it"
            )
        if self.erase_car and self.erase_contracts:
            raise DeviceError("config", "--erase-car erases the contracts too: say one of them")
        return Wishes(
            port=self.port,
            link=self.link,
            uart=None if self.uart is None else BoardUart(self.uart, self.tx, self.rx, self.baud),
            baud=self.baud,
            config=self.config,
            maker=configuration.maker_key(self.maker) if self.maker else None,
            firmware=self.firmware,
            erase_contracts=self.erase_contracts,
            erase_car=self.erase_car,
            dry_run=self.dry_run,
        )


class FlashTerminal:
    """The progress for a user, on stderr if the result is JSON."""

    def __init__(self, as_json: bool, agrees: bool) -> None:
        # The stream itself, because `sys.stdout` is another one while a board's prompt is opened.
        self._console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False)
        self._agrees = agrees

    def step(self, name: str, text: str) -> None:
        self._console.print(f"[green]✓[/] {name:<9}", end=" ")
        self._console.print(printable_lines(text), markup=False, soft_wrap=True)

    def during(self, name: str, text: str) -> AbstractContextManager[None]:
        return waiting(self._console, name, text)

    def warn(self, text: str) -> None:
        self._console.print(printable_lines(text), style="red", markup=False, soft_wrap=True)

    def file(self, path: str, done: int, total: int) -> None:
        share = 100 * done // total if total else 100
        self._console.print(f"  {share:>3} %  {path}", style="dim", markup=False, soft_wrap=True)

    def agree(self, question: str) -> bool:
        if self._agrees:
            return True
        if not sys.stdin.isatty():
            raise DeviceError("config", f"{question} There is no terminal to ask: say --yes")
        return typer.confirm(question, err=True)

    def choose_port(self, question: str, found: list[SerialPort]) -> str | None:
        if not sys.stdin.isatty() or not found:
            return None
        for number, port in enumerate(found, 1):
            text = printable(f"{port.device}  {port.description}")
            self._console.print(f"  {number}  {text}", markup=False)
        number = typer.prompt(question, type=int, err=True)
        return found[number - 1].device if 1 <= number <= len(found) else None

    def choose_uart(self, question: str) -> BoardUart | None:
        if self._agrees or not sys.stdin.isatty():
            return None
        number = typer.prompt(question, type=int, err=True)
        tx, rx = (_ask_for_pin(name) for name in ("TX", "RX"))
        return BoardUart(number, tx, rx)


def _ask_for_pin(name: str) -> int | None:
    """The number of a pin; None: the UART's own, which on an STM32 cannot be chosen."""
    text = f"Its {name} pin (Enter: the UART's own)"
    number: int = typer.prompt(text, type=int, default=-1, show_default=False, err=True)
    return None if number < 0 else number


@options_from(FlashOptions)
def flash(options: FlashOptions) -> None:
    """Put the module on a board: find it, check it, copy, configure, start, and ask it.

    The board is connected by two serial ports: MicroPython's prompt (USB on most boards) and the
    link, a UART of the board on a USB adapter of 3.3 V. host/docs/board.md has the wiring of each
    kind of board, and a table of what goes wrong. Only files that differ are copied, beside the
    old ones; Ctrl-C or a pulled cable leaves the old module or the new one.

    JSON: {"board": {"port", "uid", "machine", "micropython", "heap_free", "flash_free", …},
    "files": {"changed", "removed", "unchanged", "bytes"}, "erased": [EMAID], "car": {"files",
    "keys"}, "status", "uid", "link"}, or {"error": {"reason", "detail"}}. With --firmware also
    "firmware": {"file", "chip"}, and nothing else after a dry run.

    Exits 0 when the module has answered over the link, and after a dry run that finds nothing
    against it; 1 after an error; 2 for options that cannot be read.

        plugvault flash /dev/ttyACM0 --link /dev/ttyUSB0
    """
    report = FlashTerminal(options.as_json, options.yes)
    with stoppable(), reported(options.as_json):
        boards = Boards(options.data or default_folder())
        with Flash(boards, options.wishes(), report) as run:
            run.run()
        if options.as_json:
            typer.echo(json.dumps(run.result, indent=1))
        elif not options.dry_run:
            data = f" --data {shlex.quote(str(options.data))}" if options.data else ""
            port = run.result["board"]["port"]
            typer.echo(f"Done. Next: `plugvault board {run.next_step} {port}{data}`")


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """End a command with exit status 1 and the error, on stderr or as JSON."""
    try:
        yield
    except BrokenPipeError:
        raise  # stdout has no reader any more: `app.main` ends without a word
    except (EvccError, OSError) as error:
        reason = error.reason if isinstance(error, EvccError) else "io"
        detail = words.of(error)
        if as_json:
            typer.echo(json.dumps({"error": {"reason": reason, "detail": detail}}))
        else:
            text = detail if detail == reason else f"{reason}: {detail}"
            typer.secho(printable_lines(text), err=True, fg="red")
        raise typer.Exit(1) from error
