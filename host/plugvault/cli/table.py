"""Tables for people: whole on a terminal, and as wide as they are where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 250  # columns where no terminal says how many there are


def show(titles: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:  # what is cut cannot be typed into the next command
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    wide = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, width=wide).print(table)


def printable(said: object) -> str:
    """Others wrote some of it: neither their line breaks nor what moves a terminal's cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(said))
