"""The moments within a long computation in which a slow board serves its link.

EXI, certificates and the like call `pause` some hundred times a message. A board's `main.py` sets
the function behind it; elsewhere there is none. Not for a process with threads.
"""

_function = None


def set_pause(function) -> None:
    """function: without arguments, or None."""
    global _function
    _function = function


def pause() -> None:
    """A moment in which the link may be served."""
    if _function is not None:
        _function()
