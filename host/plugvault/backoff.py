"""Growing pauses of a loop that fails, so that it neither floods the log nor burdens a server that
is away."""


class Backoff:
    """Growing pauses: each is twice the one before, from `first` to `longest` seconds, until
    `reset`."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._next = self._first

    def pause(self) -> float:
        """The next pause in seconds. The one after it is longer."""
        pause = self._next
        self._next = min(2 * self._next, self._longest)
        return pause
