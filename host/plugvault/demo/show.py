"""The demo on a terminal: each step with its result, then a summary in three tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .record import Moved, Step

WIDE = 100  # columns


class Terminal:
    """Shows a spinner while a step runs, then its title and result; with `verbose` also every
    message and every check."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._live: Live | None = None
        self._number = 0

    def begin(self, step: Step) -> None:
        self._number += 1
        text = f" {self._number}. {step.title} …"
        self._live = Live(Spinner("dots", text), console=self._console, transient=True)
        self._live.start()

    def end(self, step: Step) -> None:
        if self._live:
            self._live.stop()
        mark = "[green]✓[/]" if step.verified else "[red]✗[/]"
        self._console.print(
            f"{mark} [bold]{self._number}. {step.title}[/] [dim]{step.seconds:.2f} s[/]"
        )
        if self._verbose:
            for moved in step.moved:
                self._console.print(_line(moved, self._console.width), highlight=False)
            sentences = step.checks
        else:
            sentences = [step.result] if step.verified else []
        for sentence in sentences:
            for n, line in enumerate(Text(sentence).wrap(self._console, self._console.width - 6)):
                line.rstrip()
                self._console.print("   ", " " if n else "[green]·[/]", line)


def summary(console: Console, data: dict[str, Any]) -> None:
    """Print the end of a run: tables of contracts, keys and wires. data: see
    `DemoRecord.as_data`."""
    console.print()
    contracts = _table(
        "Contracts in the car", "EMAID", "operator", "valid until", "active", "path"
    )
    for contract in data["contracts"]:
        contracts.add_row(
            contract["emaid"],
            contract["operator"],
            _day(contract["not_after"]),
            "[green]● active[/]" if contract["active"] else "",
            contract["path"],
        )
    keys = _table("Private keys", "owner", "key", "where", "custody")
    for key in data["keys"]:
        keys.add_row(key["owner"], key["key"], key["where"], key["custody"])
    wires = _table("Bytes on each wire", "wire", "to the car / server", "back")
    for wire in data["wires"]:
        wires.add_row(wire["wire"], f"{wire['sent']:,}", f"{wire['received']:,}")
    for table in (contracts, keys, wires):
        console.print(table)
    setup = f"{data['runtime']}, vault: {data['vault']}, {data['link']} link"
    if data["ok"]:
        count = len(data["steps"])
        console.print(
            f"[bold green]All {count} steps verified[/] in {data['seconds']:.1f} s ({setup})"
        )
    if data.get("kept"):
        kept = data["kept"]
        console.print(f"Tokens, database and captures are in {kept}; to examine a message:")
        console.print(
            f"  plugvault inspect {kept}/captures/2-*.exi --trust {kept}/roots.pem",
            highlight=False,
            soft_wrap=True,
        )


def _line(moved: Moved, width: int) -> str:
    """One message; its wire only on a wide terminal."""
    ends = f"{moved.sender} → {moved.receiver}"
    text = moved.message if len(moved.message) <= 42 else moved.message[:41] + "…"
    line = f"    {ends:<22} [cyan]{text:<42}[/] {moved.bytes:>6,} B"
    return f"{line}  [dim]{moved.over}[/]" if width >= WIDE else line


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        table.add_column(column)
    return table


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
