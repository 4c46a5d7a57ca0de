"""A report on a terminal: a tree of the content, and a table of the checks.

It is shortened where the checks or another line have the same information: a message's signature
is shown by its references, a certificate inside a message is one line. `--json` has everything.
"""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from plugvault.inspection.report import FAILED, NOT_CHECKED, OK, Report
from plugvault.inspection.story import tell
from plugvault.printable import printable

_LONG = 64  # characters of one value on the screen
_MARKS = {OK: ("✓", "green"), FAILED: ("✗", "bold red"), NOT_CHECKED: ("–", "yellow")}


def show(console: Console, file: str, report: Report) -> None:
    """Print one report."""
    console.print(Text(f"{printable(file)}: {printable(report.kind)}", style="bold"))
    if report.kind == "capture":
        tell(console, report.content)
    else:
        tree = Tree(Text(report.kind), hide_root=True)
        _grow(tree, report.content)
        console.print(tree)
    if report.checks:
        console.print(_table(report))
    console.print(_verdict(report))
    console.print()


def show_unreadable(console: Console, file: str, why: str) -> None:
    """Print that a file has no known format. why: the reason."""
    text = Text(f"{printable(file)}: unreadable: {printable(why)}", style="bold red")
    console.print(text, soft_wrap=True)


def _verdict(report: Report) -> Text:
    counts = {mark: sum(c.verdict == mark for c in report.checks) for mark in _MARKS}
    text = f"{counts[OK]} ok, {counts[FAILED]} failed, {counts[NOT_CHECKED]} not checked"
    return Text(text, style="bold red" if counts[FAILED] else "bold green")


def _grow(tree: Tree, content: Any, inside_message: bool = False) -> None:
    pairs = content.items() if isinstance(content, dict) else enumerate(content, 1)
    for key, value in pairs:
        name = Text(printable(str(key)), style="cyan")
        line = _line(str(key), value, inside_message)
        if line is None:
            _grow(tree.add(name), value, inside_message or "message" in content)
        else:
            tree.add(name.append(": ", "default").append(printable(line), "default"))


def _line(key: str, value: Any, inside_message: bool) -> str | None:
    """One line for this value, or None for a value that needs a branch."""
    if key == "Signature" and isinstance(value, dict):
        references = value.get("SignedInfo", {}).get("Reference", [])
        return "over " + ", ".join(str(r.get("URI")) for r in references)
    if inside_message and isinstance(value, dict) and "notAfter" in value:
        dates = f"{value['notBefore'][:10]} to {value['notAfter'][:10]}"
        return f"{value['subject']}; {dates}; {value['bytes']} bytes"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if inside_message:
            return ", ".join(_short(item) for item in value)
        return ", ".join(value)
    if isinstance(value, (dict, list)) and value:
        return None
    return _short(str(value))


def _short(text: str) -> str:
    if len(text) <= _LONG:
        return text
    return f"{text[:24]}… ({len(text)} characters)"


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold", min_width=30, ratio=1)
    table.add_column(width=11)
    table.add_column(overflow="fold", ratio=1)
    part = ""
    for check in report.checks:
        head, colon, tail = check.check.partition(": ")
        name = tail if colon else head
        if colon and head != part:
            table.add_row("", Text(printable(head), style="bold"))
        part = head if colon else ""
        mark, style = _MARKS[check.verdict]
        table.add_row(
            Text(mark, style=style),
            Text(("  " if colon else "") + printable(name)),
            Text(check.verdict, style=style),
            Text(printable(check.detail)),
        )
    return table
