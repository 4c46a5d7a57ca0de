"""Somebody's own token, lent to a test or a demonstration: empty before, and empty after."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from evcc.vault import VaultError
from plugvault.hsm import apart
from plugvault.hsm.selection import Chosen


@contextlib.contextmanager
def borrowed(chosen: Chosen) -> Iterator[None]:
    """For this alone, of all processes of this user on this machine, in turn. The keys of a car
    that are made in it meanwhile are destroyed; whatever else is in it is left alone.

    Raises: VaultError("exists") when it has keys of a car already; else as `apart.ask`.
    """
    place = asdict(chosen.place)
    with _alone(repr(chosen.place)):
        if apart.ask("keys", pin=chosen.pin, **place):
            said = "holds keys of a car, which would be destroyed: name a token without"
            raise VaultError("exists", f"{chosen.place.label} {said}")
        try:
            yield
        finally:
            apart.ask("empty", pin=chosen.pin, **place)


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    name = f"plugvault-{os.geteuid()}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock"
    path = Path(tempfile.gettempdir()) / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
