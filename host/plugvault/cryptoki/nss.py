"""NSS's driver: its initialisation.

python-pkcs11 calls C_Initialize(NULL). NSS wants CK_C_INITIALIZE_ARGS with a text in the reserved
member that names its database. `NssLibrary` overrides the one method that initialises; neither
python-pkcs11 nor the system's configuration is changed. NSS softoken is initialised once in a
process: if other code has already done that, this fails.
"""

import ctypes
from typing import Any

from pkcs11 import _pkcs11, exceptions

from evcc.vault.nss import NssFiles
from plugvault.cryptoki.driver import Driver

_CKF_OS_LOCKING_OK = 2
_INITIALIZE, _FINALIZE = 1, 2  # indexes in CK_FUNCTION_LIST, whose first word is the version
_CALL = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_PROBLEMS = {
    # ARGUMENTS_BAD
    0x07: "it does not take these options; NSS wants such as configdir='sql:/srv/nss'",
    0xE2: "its database cannot be written",  # TOKEN_WRITE_PROTECTED
    0x191: "other code in this process has initialised it: `service()` has a process of its own",
}


class NssDriver(Driver):
    """The driver of NSS softoken. options: the text for C_Initialize."""

    def __init__(self, options: str) -> None:
        super().__init__(NssFiles(options))
        self._options = options

    def trouble(self, path: str) -> str:
        return ""  # it has its options, and `_PROBLEMS` says the cause

    def load(self, path: str) -> Any:
        return NssLibrary(path, self._options)

    def unload(self, path: str, library: Any) -> None:
        library.close()


class _Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS, and the word after it that NSS reads."""

    _fields_ = (
        ("mutex_functions", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("options", ctypes.c_char_p),
        ("reserved", ctypes.c_void_p),
    )


class NssLibrary(_pkcs11.lib):
    """The library at `path`, initialised with `options`.

    Raises: pkcs11.PKCS11Error, or a subclass when the library itself refused.
    """

    def __new__(cls, path: str, options: str) -> Any:
        return super().__new__(cls, path)  # type: ignore[call-arg]

    def __init__(self, path: str, options: str) -> None:
        self._arguments = _Arguments(flags=_CKF_OS_LOCKING_OK, options=options.encode())
        library = ctypes.CDLL(path)
        table = ctypes.POINTER(ctypes.c_void_p)()
        library.C_GetFunctionList(ctypes.byref(table))
        self._initialize = _CALL(table[_INITIALIZE])
        self._finalize = _CALL(table[_FINALIZE])
        super().__init__(path)

    def initialize(self) -> None:
        code = self._initialize(ctypes.addressof(self._arguments))
        if code:
            raise exceptions.FunctionFailed(_PROBLEMS.get(code, f"C_Initialize: 0x{code:x}"))

    def finalize(self) -> None:
        self._finalize(None)

    def close(self) -> None:
        self.finalize()
        self.unload()
