"""Base classes for objects that a `with` statement closes."""

from contextlib import ExitStack
from typing import Self


class Closeable:
    """A base class: `with` calls `close()` at the end."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Startable(Closeable):
    """A base class: `with` calls `_start()` first. The contents of `_stack` are closed at the end,
    and at once when the start fails."""

    _stack: ExitStack

    def _start(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self
