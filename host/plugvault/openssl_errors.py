"""The error queue of the OpenSSL that Python's `ssl` uses.

A PKCS#11 library may use the same OpenSSL and leave errors in the queue of its thread; SoftHSM
does. `ssl` would report them later as the failure of a correct connection.
"""

import ctypes
from collections.abc import Callable


def _function() -> Callable[[], object]:
    """The function that empties the queue. It does nothing where Python contains its own OpenSSL,
    because no other library uses that one."""
    import _ssl

    file = getattr(_ssl, "__file__", None)
    if file is None:
        return lambda: None
    # PyDLL keeps the interpreter lock: the call is shorter than its release.
    function: Callable[[], object] = ctypes.PyDLL(file).ERR_clear_error
    return function


clear = _function()  # empties the queue of this thread
