"""The story for a person: each step as it happens, then the summary in four small tables."""

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
    """Tells the story on a terminal: a spinner while a step runs, its facts when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
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
        for moved in step.moved:
            self._console.print(_line(moved, self._console.width), highlight=False)
        for claim in step.checks:
            for n, line in enumerate(Text(claim).wrap(self._console, self._console.width - 6)):
                line.rstrip()
                self._console.print("   ", " " if n else "[green]·[/]", line)


def summary(console: Console, data: dict[str, Any]) -> None:
    """The end of the story: contracts, keys, wires, times."""
    console.print()
    contracts = _table(
        "Contracts in the car", "EMAID", "operator", "valid until", "active", "came"
    )
    for c in data["contracts"]:
        contracts.add_row(
            c["emaid"],
            c["operator"],
            _day(c["not_after"]),
            "[green]● active[/]" if c["active"] else "",
            c["path"],
        )
    keys = _table("Private keys", "whose", "key", "where", "custody")
    for k in data["keys"]:
        keys.add_row(k["owner"], k["key"], k["where"], k["custody"])
    wires = _table("Bytes on each wire", "wire", "to the car / server", "back")
    for w in data["wires"]:
        wires.add_row(w["wire"], f"{w['sent']:,}", f"{w['received']:,}")
    for table in (contracts, keys, wires):
        console.print(table)
    times = ", ".join(f"{s['name']} {s['seconds']:.2f} s" for s in data["steps"])
    console.print(f"[dim]{times}[/]", highlight=False)
    how = f"{data['runtime']}, vault: {data['vault']}, {data['link']} link"
    if data["ok"]:
        count = len(data["steps"])
        console.print(
            f"[bold green]All {count} steps verified[/] in {data['seconds']:.1f} s ({how})"
        )
    if data.get("kept"):
        kept = data["kept"]
        console.print(f"Tokens, database and captures are in {kept}; to look at a message:")
        console.print(
            f"  plugvault inspect {kept}/captures/2-*.exi --trust {kept}/roots.pem",
            highlight=False,
            soft_wrap=True,
        )


def _line(m: Moved, width: int) -> str:
    """One message; what carried it only where a terminal has room for that."""
    ends = f"{m.sender} → {m.receiver}"
    shown = m.message if len(m.message) <= 42 else m.message[:41] + "…"
    line = f"    {ends:<22} [cyan]{shown:<42}[/] {m.bytes:>6,} B"
    return f"{line}  [dim]{m.over}[/]" if width >= WIDE else line


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        table.add_column(column)
    return table


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
