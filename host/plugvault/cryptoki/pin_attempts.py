"""One attempt for each wrong PIN.

A token counts wrong PINs and locks itself after a few. So a PIN that a token has refused is not
sent to that token again by this process. A supervisor that restarts processes must look at their
exit status (`firmware/main.py` states which one means a wrong PIN).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from evcc.vault import VaultError

_SALT = os.urandom(16)
_wrong: set[bytes] = set()


def fingerprint(pin: str | bytearray, *token: str) -> bytes:
    """A hash that identifies a token's PIN within this process, without keeping the PIN.

    token: the texts that identify the token.
    """
    secret = pin if isinstance(pin, bytearray) else pin.encode()
    names = "".join("\0" + name for name in token).encode()
    data = bytearray(len(secret) + len(names))  # of the full length: growing would leave a copy
    data[: len(secret)], data[len(secret) :] = secret, names
    try:
        return hashlib.scrypt(data, salt=_SALT, n=1024, r=8, p=1)
    finally:
        data[:] = bytes(len(data))


@contextmanager
def one_attempt(pin: str | bytearray, *token: str) -> Iterator[None]:
    """The context of a login. A failure with the reason "pin" is remembered for this PIN.

    Raises: VaultError("pin") without a login, when the token has refused this PIN before.
    """
    attempt = fingerprint(pin, *token)
    if attempt in _wrong:
        raise VaultError("pin", "wrong before, not tried again by this process")
    try:
        yield
    except VaultError as error:
        if error.reason == "pin":
            _wrong.add(attempt)
        raise
