"""The moments within a long computation in which a slow board serves its link.

EXI, certificates and the like call `pause` some hundred times a message. A board's `main.py` sets
the module that serves its link; elsewhere there is none. Not for a process with threads.
"""

_module = None


def set_pause(module) -> None:
    """module: `pause` calls its method of that name; None: it calls nothing."""
    global _module
    _module = module


def pause() -> None:
    """A moment in which the link may be served."""
    if _module is not None:
        _module.pause()  # a method called by name takes less stack than a function kept
