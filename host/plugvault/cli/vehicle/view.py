"""The output of `plugvault vehicle`: the session as it happens, or JSON lines of its events."""

import json
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.panel import Panel

from plugvault.cli.table import literal

_BAD = ("failed", "rejected", "unable", "locked", "stranger")
_GOOD = ("secured", "installed", "authorized", "charged")
_WORDS = {
    "station": "found",
    "secured": "TLS",
    "rejected": "contract rejected",
    "unavailable": "no contract here",
    "failed": "failed",
}


class View(Protocol):
    """The display of a session."""

    def ready(self, facts: dict[str, Any]) -> None:
        """The vehicle is plugged in. facts: the fields of the event."""

    def observe(self, channel: str, name: str, text: str) -> None:
        """An event or a line of the log. channel: "event", or "log" with the line as `text`."""

    def over(self, facts: dict[str, Any]) -> None:
        """The session has ended. facts: "authorized", and "reason" of a failure or ""."""


class JsonView:
    """A line of JSON for each event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def ready(self, facts: dict[str, Any]) -> None:
        self._line(event="ready", **facts)

    def observe(self, channel: str, name: str, text: str) -> None:
        self._line(event=name if channel == "event" else channel, text=text)

    def over(self, facts: dict[str, Any]) -> None:
        self._line(event="over", **facts)

    def _line(self, **fields: Any) -> None:
        print(json.dumps(fields), file=self._out, flush=True)


class TerminalView:
    """A line of text for each event. verbose: for each check and line of the log too."""

    def __init__(self, console: Console, verbose: bool, warning: str) -> None:
        self._console, self._verbose, self._warning = console, verbose, warning

    def ready(self, facts: dict[str, Any]) -> None:
        console = self._console
        if self._warning:
            console.print(Panel(self._warning, style="bold white on red"))
        pcid, runtime, address = (literal(facts[name]) for name in ("pcid", "runtime", "address"))
        text = f"[bold]{pcid}[/] with {runtime} at {address}"
        console.print(text, soft_wrap=True)
        if facts["contract"]:
            console.print(f"the contract {literal(facts['contract'])} waits in the pool")

    def observe(self, channel: str, name: str, text: str) -> None:
        if channel == "log":
            if self._verbose:
                self._console.print(f"  {literal(text)}", style="dim", soft_wrap=True)
            return
        if name == "closed" or (name == "check" and not self._verbose):
            return
        colour = "red" if name in _BAD else "green" if name in _GOOD else "default"
        words = _WORDS.get(name, name)
        self._console.print(f"[{colour}]{words:<17}[/] {literal(text)}", soft_wrap=True)

    def over(self, facts: dict[str, Any]) -> None:
        if facts["ok"]:
            self._console.print(f"[green]✓ authorized with {literal(facts['authorized'])}[/]")
            return
        why = facts["reason"] or "the session ended before authorization"
        self._console.print(f"[red]✗ not charged: {literal(why)}[/]")
        for line in facts["log"][-3:]:
            text = f"  the module's log: {literal(line)}"
            self._console.print(text, style="dim", soft_wrap=True)
