"""The pauses within a long computation in which a slow board serves its link.

The EXI codec, `x509` and `chain` call `pause` some hundred times a message. A board's `main.py`
sets the module that serves its link; a computer sets none. Not for a process with threads.
"""

_module = None


def set_pause(module) -> None:
    """Set the object whose method `pause`, without arguments, serves the link; None: there is
    none."""
    global _module
    _module = module


def pause() -> None:
    """Serve the link now, if a module is set. Raises: the errors of its link."""
    if _module is not None:
        _module.pause()  # the call of a method takes less stack than that of a stored function
