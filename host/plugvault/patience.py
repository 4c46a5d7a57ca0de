"""Work that must not wait: what an event loop does itself, while everybody else stands by.

Whoever is about to wait for another process, a network or a writer calls `wait` first. Within
`at_once` that ends the attempt with WouldWait, and it is made again where waiting is allowed; so
nothing that lasts may be done before the first thing that may have to wait. A file's database, a
database server on this machine and a token in this process count as at hand: they take less time
than a thread does to begin, and so does the other writer who is nearly done.

Requests that an event loop finds together are worked on in one turn (`comes`, `begins`), and the
last of them knows it (`is_last`): what can be done once for all of them is done then.
"""

import threading
from contextvars import ContextVar

_hurried = ContextVar("hurried", default=False)


class WouldWait(BaseException):
    """Not now and not here: do it again in a thread. No `Exception`: those who see to it that a
    silent partner is no failure must not take this for one."""


def hurried() -> bool:
    """Whether the work at hand must not wait."""
    return _hurried.get()


def wait() -> None:
    """Say that what follows waits. Raises WouldWait where it must not."""
    if _hurried.get():
        raise WouldWait


class at_once:  # noqa: N801
    """Within this, nothing waits."""

    def __enter__(self) -> None:
        self._token = _hurried.set(True)

    def __exit__(self, *_: object) -> None:
        _hurried.reset(self._token)


class _Coming(threading.local):
    """On the event loop of this thread. A guess: nothing is wrong when it is."""

    requests = 0


_coming = _Coming()


def comes() -> None:
    """A request is there, and will be worked on in its turn."""
    _coming.requests += 1


def begins() -> None:
    """Its turn has come."""
    _coming.requests = max(0, _coming.requests - 1)


def is_last() -> bool:
    """Whether nobody else is there whose turn is yet to come."""
    return not _coming.requests
