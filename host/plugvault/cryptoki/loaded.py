"""The libraries that python-pkcs11 has loaded in this process, for this package and for others.

python-pkcs11 keeps them by the path that its caller wrote. A second path of the same file, such as
a symbolic link, would initialise the library again, which fails. So a library of this package has
all its paths there, and one that other code has loaded is shared.
"""

import ctypes
import os
from typing import Any

import pkcs11

# Indexes in CK_FUNCTION_LIST, whose first word is the version [PKCS#11 2.40, 5.3].
_FINALIZE, _GET_INFO, _INFO = 2, 3, 256  # and room for CK_INFO
_CALL = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_loaded: dict[str, Any] = pkcs11._loaded


def names(path: str) -> list[str]:
    """The paths under which the file at `path` is loaded."""
    file = os.path.realpath(path)
    return [name for name in _loaded if os.path.realpath(name) == file]


def find(path: str) -> Any | None:
    """The library of this file, initialised, or None."""
    libraries = (_loaded[name] for name in names(path))
    return next((library for library in libraries if library.initialized), None)


def add(path: str, library: Any) -> None:
    """Register a library under a path that has none, so that `pkcs11.lib(path)` returns it."""
    _loaded.setdefault(path, library)


def remove(library: Any) -> None:
    """Remove every path of a library that ends."""
    for name in [name for name, other in _loaded.items() if other is library]:
        del _loaded[name]


def is_initialised(path: str) -> bool:
    """Whether any code of this process has initialised the library. For NSS the answer is always
    True."""
    table = _functions(path)
    if table is None:
        return False
    info = ctypes.create_string_buffer(_INFO)  # it has to live until the call has ended
    return bool(_CALL(table[_GET_INFO])(ctypes.addressof(info)) == 0)


def end(path: str) -> None:
    """End a library of this file that other code has loaded by python-pkcs11."""
    for name in names(path):
        library = _loaded.pop(name)
        if library not in _loaded.values():
            library.unload()


def finalize(path: str) -> None:
    """End the library for all code of this process."""
    if is_initialised(path):
        _CALL(_functions(path)[_FINALIZE])(None)


def _functions(path: str) -> Any:
    """CK_FUNCTION_LIST of a library that is loaded; None for one that is not."""
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return None
    table = ctypes.POINTER(ctypes.c_void_p)()
    library.C_GetFunctionList(ctypes.byref(table))
    return table
