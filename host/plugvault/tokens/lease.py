"""Somebody's own token, lent to a test or a demonstration: empty before, and empty after."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict

from evcc.vault import VaultError
from plugvault import file_lock, runtimes
from plugvault.tokens import probe
from plugvault.tokens.selection import Chosen

PATIENCE = 600.0  # seconds until the turn of who waits has to come


@contextlib.contextmanager
def borrowed(chosen: Chosen) -> Iterator[None]:
    """For this alone, of all processes of this user on this machine, in turn. The keys of a car
    that are made in it meanwhile are destroyed; whatever else is in it is left alone.

    Raises: VaultError("exists") when it has keys of a car already; "unavailable" when another
    process has it and does not give it back, or there is no folder for the locks that is this
    user's alone; else as `probe.ask`.
    """
    place = asdict(chosen.place)
    with _alone(repr(chosen.place)):
        if probe.ask("keys", pin=chosen.pin, **place):
            said = "holds keys of a car, which would be destroyed: name a token without"
            raise VaultError("exists", f"{chosen.place.label} {said}")
        try:
            yield
        finally:
            probe.ask("empty", pin=chosen.pin, **place)


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    name = f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock"
    try:
        lock = file_lock.acquire(runtimes.run_folder() / name, PATIENCE)
    except TimeoutError:
        raise VaultError("unavailable", f"the token is in use by {_holder(name)}, still") from None
    except OSError as error:
        raise VaultError("unavailable", f"no folder for locks: {error}") from error
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(name: str) -> str:
    return (runtimes.run_folder() / name).read_text(errors="replace")[:64] or "another process"
