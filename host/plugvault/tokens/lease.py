"""An exclusive lease of a configured token: the token has no car's keys before and after."""

import contextlib
import hashlib
import os
from collections.abc import Iterator

from evcc.vault import VaultError
from plugvault import file_lock, runtimes
from plugvault.tokens import probes, subprocess_probe
from plugvault.tokens.selection import TokenConfiguration

TIMEOUT = 600.0  # seconds to wait for the lease of another process to end


@contextlib.contextmanager
def exclusive_lease(token: TokenConfiguration) -> Iterator[None]:
    """One process of this user at a time has the token. A car's keys that are made in it meanwhile
    are destroyed at the end; other objects in the token stay.

    Raises: VaultError("exists") when the token has keys of a car already; "unavailable" when
    another process does not end its lease, or there is no folder for the lock that is this user's
    alone; else as `subprocess_probe.run`.
    """
    location = token.location
    with _lock(repr(location)):
        if subprocess_probe.run(probes.list_keys, location=location, pin=token.pin):
            detail = "holds keys of a car, which would be destroyed: name a token without"
            raise VaultError("exists", f"{location.label} {detail}")
        try:
            yield
        finally:
            subprocess_probe.run(probes.destroy_keys, location=location, pin=token.pin)


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    file = f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    try:
        lock = file_lock.acquire(runtimes.run_folder() / file, TIMEOUT)
    except TimeoutError:
        raise VaultError("unavailable", f"the token is in use by {_holder(file)}, still") from None
    except OSError as error:
        raise VaultError("unavailable", f"no folder for locks: {error}") from error
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(file: str) -> str:
    return (runtimes.run_folder() / file).read_text(encoding="utf-8", errors="replace")[
        :64
    ] or "another process"
