"""Tables on a terminal: as wide as the terminal, or as their rows where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from plugvault.printable import printable, printable_lines

_WIDE = 250  # columns without a terminal


def show(titles: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table. A cell may have several lines."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:  # folded and not cut, so that every value can be copied
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable_lines(cell)) for cell in row))
    width = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, width=width).print(table)


def literal(value: object) -> str:
    """The text of a value for a `Console`, without control characters and without markup."""
    return escape(printable(value))
