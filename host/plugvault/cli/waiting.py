"""A line on a terminal while a command waits for a board."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from plugvault.printable import printable_lines

_SHOWN = 10.0  # seconds without a figure: most waits are shorter


class _Line:
    """The line, with the seconds of a long wait."""

    def __init__(self, name: str, text: str) -> None:
        self._text = f"… {name:<9} {printable_lines(text)}"
        self._start = time.monotonic()

    def __rich__(self) -> Text:
        seconds = time.monotonic() - self._start
        return Text(self._text + (f" ({seconds:.0f} s)" if seconds >= _SHOWN else ""), style="dim")


@contextmanager
def waiting(console: Console, name: str, text: str) -> Iterator[None]:
    """Show what the command waits for: on a terminal until the context ends, with the seconds of a
    long wait, otherwise as one line."""
    line = _Line(name, text)
    if not console.is_terminal:
        console.print(line.__rich__(), soft_wrap=True)
        yield
        return
    with Live(line, console=console, refresh_per_second=2, transient=True):
        yield


@contextmanager
def waiting_user(name: str, text: str) -> Iterator[None]:
    """Show on stderr what a command waits for, to a user at a terminal alone."""
    console = Console(file=sys.stderr, highlight=False)
    with waiting(console, name, text) if console.is_terminal else nullcontext():
        yield
