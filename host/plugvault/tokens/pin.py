"""The sources of a token's PIN.

    file:PATH    the one line in the file, which only its owner may read (mode 0600): `of_file`
    env:NAME     a variable. It is removed from the environment: no child process inherits it, and
                 /proc/PID/environ no longer shows it
    prompt       a question on the terminal, without echo
    a function   called without arguments, from another program

A PIN itself is never a source: every user of the machine can read a command line. No error text
contains a PIN, or the text that was given as a source, because that text may be a PIN.
"""

import contextlib
import ctypes
import getpass
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from evcc.vault import VaultError
from evcc.vault.pin import of_file

Source = str | Callable[[], str]

WAYS = "file:PATH, env:NAME or prompt"

_ENV_START = 47  # index among the fields of /proc/PID/stat after the name [proc_pid_stat(5): 50th]


def read(source: Source, token: str = "") -> str:
    """The PIN from its source. token: the label that the prompt shows.

    Raises: VaultError("pin"), with the remedy in its text.
    """
    if callable(source):
        pin = _of_function(source)
    else:
        kind, _, name = source.partition(":")
        reader = _READERS.get(kind)
        if reader is None or bool(name) == (kind == "prompt"):
            raise VaultError("pin", f"name the PIN's source, never the PIN: {WAYS}")
        pin = reader(name or token)
    if not pin:
        raise VaultError("pin", "the PIN is empty")
    return pin


def _of_environment(name: str) -> str:
    pin = os.environ.pop(name, None)
    if pin is None:
        raise VaultError("pin", f"{name} is not in the environment, or was read before")
    _wipe(os.fsencode(name))
    return pin


def _wipe(name: bytes) -> None:
    """Overwrite a variable's value in the memory that /proc/PID/environ shows. It is the memory
    that this process started with; changes of `os.environ` do not reach it."""
    with contextlib.suppress(OSError):  # there is no /proc, or this process may not read it
        begin = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[_ENV_START])
        shown = Path("/proc/self/environ").read_bytes()
        for match in re.finditer(rb"(?:^|\0)%b=([^\0]*)" % re.escape(name), shown):
            ctypes.memset(begin + match.start(1), 0, len(match[1]))


def _of_prompt(token: str) -> str:
    if not sys.stdin.isatty():  # getpass would show the typed PIN
        raise VaultError("pin", "no terminal to ask on: use file:PATH or env:NAME")
    return getpass.getpass(f"PIN of {token or 'the token'}: ")


def _of_function(source: Callable[[], str]) -> str:
    try:
        pin: object = source()
    except VaultError:  # its text contains a remedy, and no PIN
        raise
    except Exception as error:  # noqa: BLE001 - the caller's function may raise any error
        problem = f"the PIN's function failed: {type(error).__name__}"
    else:
        if isinstance(pin, str):
            return pin
        problem = f"the PIN's function returned {type(pin).__name__}"
    # Outside of the handler: the function's error may contain the PIN, and would be chained.
    raise VaultError("pin", problem)


_READERS: dict[str, Callable[[str], str]] = {
    "file": of_file,
    "env": _of_environment,
    "prompt": _of_prompt,
}
