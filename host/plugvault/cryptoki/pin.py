"""Where a token's PIN comes from, and that a wrong one is not tried twice.

    file:PATH    the one line in the file, which is for its owner alone (mode 0600): `of_file`
    env:NAME     a variable, which is taken out of the environment: no child inherits it, and
                 /proc/PID/environ shows it no more
    prompt       asked for on the terminal, without showing it
    a function   called without arguments, from a program of one's own

There is no way to say a PIN itself, so none can be on a command line: those are there for every
user of the machine to read. No error of here carries a PIN, nor what was given in place of a
source, which may be one.

A token counts wrong PINs and locks itself after a few. So each is tried once, by nobody again in
this process [`once`]; what starts processes again must look at their exit (`firmware/main.py`
says which).
"""

import contextlib
import ctypes
import getpass
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evcc.vault import VaultError
from evcc.vault.pin import of_file

Source = str | Callable[[], str]

WAYS = "file:PATH, env:NAME or prompt"

_ENV_START = 47  # of the fields of /proc/PID/stat behind the name [proc_pid_stat(5): the 50th]


def read(source: Source, token: str = "") -> str:
    """The PIN from its source. token: the label, for who is asked.

    Raises: VaultError("pin"), saying what to do.
    """
    if callable(source):
        pin = _called(source)
    else:
        kind, _, name = source.partition(":")
        way = _WAYS.get(kind)
        if way is None or bool(name) == (kind == "prompt"):
            raise VaultError("pin", f"say where the PIN is, never the PIN: {WAYS}")
        pin = way(name or token)
    if not pin:
        raise VaultError("pin", "the PIN is empty")
    return pin


def _of_environment(name: str) -> str:
    try:
        found = os.environ.pop(name)
    except KeyError:
        said = f"{name} is not in the environment, or was read before: each is read once"
    else:
        _wipe(os.fsencode(name))
        return found
    raise VaultError("pin", said)


def _wipe(name: bytes) -> None:
    """Zeros in place of a variable's value in the memory that this process began with. The system
    shows that memory as /proc/PID/environ, and no change of the environment reaches it."""
    with contextlib.suppress(OSError):  # no /proc, or a process that is closed to everybody
        begin = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[_ENV_START])
        shown = Path("/proc/self/environ").read_bytes()
        for found in re.finditer(rb"(?:^|\0)%b=([^\0]*)" % re.escape(name), shown):
            ctypes.memset(begin + found.start(1), 0, len(found[1]))


def _asked(token: str) -> str:
    if not sys.stdin.isatty():  # getpass would show what is typed
        raise VaultError("pin", "no terminal to ask on: use file:PATH or env:NAME")
    return getpass.getpass(f"PIN of {token or 'the token'}: ")


def _called(source: Callable[[], str]) -> str:
    try:
        pin: object = source()
    except VaultError:  # says what to do, and no PIN
        raise
    except Exception as error:  # noqa: BLE001 - somebody else's, and it may hold the PIN
        said = f"the function that gives it failed: {type(error).__name__}"
    else:
        if isinstance(pin, str):
            return pin
        said = f"the function that gives it gave {type(pin).__name__}"
    raise VaultError("pin", said)  # here, where the error does not hang on to the other


_WAYS: dict[str, Callable[[str], str]] = {
    "file": of_file,
    "env": _of_environment,
    "prompt": _asked,
}

_SALT = os.urandom(16)
_wrong: set[bytes] = set()


def fingerprint(pin: str | bytearray, *token: str) -> bytes:
    """To know a token's PIN again without keeping it; of this process only."""
    secret = pin if isinstance(pin, bytearray) else pin.encode()
    names = "".join("\0" + name for name in token).encode()
    said = bytearray(len(secret) + len(names))  # filled in place: to grow would leave a copy
    said[: len(secret)], said[len(secret) :] = secret, names
    try:
        return hashlib.scrypt(said, salt=_SALT, n=1024, r=8, p=1)
    finally:
        said[:] = bytes(len(said))


@contextmanager
def once(pin: str | bytearray, *token: str) -> Iterator[None]:
    """A login to the token of these names with this PIN: refused when it was wrong before.

    Raises: VaultError("pin"), without asking the token.
    """
    known = fingerprint(pin, *token)
    if known in _wrong:
        raise VaultError("pin", "wrong before, not tried again by this process")
    try:
        yield
    except VaultError as error:
        if error.reason == "pin":
            _wrong.add(known)
        raise
