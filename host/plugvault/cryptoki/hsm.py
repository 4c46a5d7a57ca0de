"""The PKCS#11 libraries that this process has open, shared by their users.

A process can have many tokens open, of one store for each library.
"""

import atexit
import ctypes
import os
import threading
from pathlib import Path
from typing import Any

from evcc.vault import VaultError
from plugvault.contexts import Closeable
from plugvault.cryptoki.library import Library
from plugvault.cryptoki.token import Token

_libraries: dict[str, Library] = {}
_libraries_lock = threading.Lock()


class Hsm(Closeable):
    """A PKCS#11 library, opened for this process; `with` or close() releases it.

    module: the library's path; conf: the file for SOFTHSM2_CONF, where the library is SoftHSM;
    options: the text for C_Initialize, for a library that needs one [`nss`]. Several objects may
    be open at once on the same module, conf and options, and share the library.

    Raises: VaultError("module-missing" | "unavailable" | "refused": another store is open).
    """

    def __init__(
        self, module: Path | str, conf: Path | str | None = None, options: str = ""
    ) -> None:
        if not Path(module).is_file():
            raise VaultError("module-missing", f"{module} does not exist")
        path = os.path.realpath(module)  # a symbolic link would be initialised a second time
        conf = os.path.realpath(conf) if conf else None
        with _libraries_lock:
            library = _libraries.get(path)
            if library is None:
                library = _libraries[path] = Library(path, conf, options)
                library.add_name(str(module))
            elif (library.conf, library.options) != (conf, options):
                text = "this process has the library open on another store: close that, or use "
                text += "`service()`, which opens the token in a process of its own"
                raise VaultError("refused", text)
            library.users += 1
        self._library: Library | None = library

    def token(self, name: str, pin: str | bytearray) -> Token:
        """The token of that name [`uri.Name`], logged in. The PIN is tried once; the caller wipes
        a bytearray.

        Raises: VaultError("token-missing" | "refused": several have this name | "pin" |
        "pin-locked" | "unavailable").
        """
        library = self._open_library()
        with library.lock:
            token = library.tokens.get(name) or library.open_by_another_name(name)
            if token is None:
                token = library.tokens[name] = Token(library, name, pin)
            elif not token.is_pin(pin):
                raise VaultError("pin", name)
            return token

    def tokens(self) -> list[Any]:
        """Every token of the library, as python-pkcs11 describes it. Nothing is logged in."""
        library = self._open_library()
        with library.call():
            return list(library.lib.get_tokens())

    @property
    def version(self) -> str:
        """The version of the library, as "MAJOR.MINOR"."""
        return "{}.{}".format(*self._open_library().lib.library_version)

    def _open_library(self) -> Library:
        library = self._library
        if library is None or library.users < 1:
            raise VaultError("unavailable", "closed")
        return library

    def close(self) -> None:
        library, self._library = self._library, None
        if library is None:
            return
        with _libraries_lock, library.lock:
            library.users -= 1
            if not library.users:
                _close(library)


def _close(library: Library) -> None:
    del _libraries[library.path]
    library.tokens.clear()
    library.unload()


def close_library(module: Path | str) -> None:
    """Close a library for all its users, at the end of a test that may have failed before it
    closed its own. Every `Hsm` that used it is closed then."""
    with _libraries_lock:
        library = _libraries.get(os.path.realpath(module))
        if library:
            with library.lock:
                library.users = (
                    0  # an `Hsm` that is closed later counts below 0, and closes nothing
                )
                _close(library)


@atexit.register
def _close_at_exit() -> None:
    """Close NSS's libraries and keep their objects: python-pkcs11 would call one of their methods
    after Python has removed the methods, and would print an error."""
    for library in _libraries.values():
        if library.options and library.lock.acquire(timeout=1):
            library.unload()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(library.lib))


def _mark_forked() -> None:
    """Make this process's objects unusable in a child process: their sessions are the parent's,
    though NSS would accept calls of the child."""
    for library in _libraries.values():
        library.call().is_forked = True


os.register_at_fork(after_in_child=_mark_forked)
