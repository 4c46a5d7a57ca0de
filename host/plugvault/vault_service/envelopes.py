"""The vault service's records of the envelopes that it was asked to open [`evcc.envelopes`].

There is one file for each owner of keys in the token, written and flushed before the token is
asked, and read anew each time: two services on one token share it, and so does the command that
lifts a lock. It also has the limit of the owner's openings, which so outlives the process. An
adopted provisioning key has one record, whichever owner claims it, and belongs to the first client
that uses it: another client's record would begin empty. The files are in a folder `plugvault`
among the token's own files, where those are known [`providers.files_folder`], so that a backup of
the token includes them; else in a folder named after the token. A damaged file is never replaced
by an empty one.
"""

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evcc.envelopes import MISMATCHED, EnvelopeError, Envelopes
from evcc.ports.files import Files, StoreError
from evcc.record import RecordError, pack, unpack
from evcc.vault import OWNER, PROVISIONING, VaultError
from evcc.vault.pkcs11 import TokenVault
from plugvault import file_lock
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.providers import files_folder
from plugvault.vault_service.callers import LIMIT, take_opening

ROOM = 1024  # envelopes of an owner, 37 bytes each
_FOLDER, _NAME = "plugvault", "envelopes"
_OWNED_FILE = re.compile(rf"{_NAME}(?:-((?:[0-9a-f]{{2}}){{8}}))?")
_LOCK_TIMEOUT = 2.0  # seconds; another process needs the file for a few milliseconds
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_REASONS = {"seen": "seen", "mismatched": "key-mismatch", "locked": "locked", "full": "full"}


class Record:
    """The envelopes of one owner, in a file. room: the greatest number of envelopes."""

    def __init__(self, folder: Path, name: str, room: int = ROOM) -> None:
        self._folder, self._name, self._room = folder, name, room
        self._stored: bytes | None = None
        self._envelopes = Envelopes(room)
        self._openings = b""  # of `take_opening`

    def ask(
        self,
        provisioning: bytes,
        dh_point: bytes,
        wrapped: bytes,
        leaf: bytes,
        hourly: float | None = None,
    ) -> None:
        """Record an envelope before the token is asked to open it.

        The arguments are those of `Envelopes.add`. hourly: the openings an hour, None for any
        number; a refused opening is not counted. Raises: VaultError("seen" | "key-mismatch" |
        "locked" | "full" | "limited" | "unavailable").
        """
        with self._open() as envelopes:
            envelopes.check(provisioning, dh_point, wrapped, leaf)
            if hourly is not None:
                self._openings = take_opening(self._openings, hourly, time.time())
            envelopes.add(provisioning, dh_point, wrapped, leaf)

    def mismatched(self, dh_point: bytes) -> None:
        """Record that the key of an opened envelope did not match its certificate. Raises as
        `ask`."""
        with self._open() as envelopes:
            envelopes.settle(dh_point, MISMATCHED)

    def unlock(self) -> int:
        """Lift the lock. Returns the number of mismatches counted before. Recorded envelopes stay
        recorded."""
        with self._open() as envelopes:
            count = envelopes.mismatches
            envelopes.mismatches = 0
            return count

    def status(self) -> dict[str, Any]:
        """{"envelopes", "mismatches", "locked"}. Raises: VaultError as `ask`."""
        with self._open() as envelopes:
            return {
                "envelopes": len(envelopes),
                "mismatches": envelopes.mismatches,
                "locked": envelopes.locked,
            }

    @contextlib.contextmanager
    def _open(self) -> Iterator[Envelopes]:
        """The stored envelopes, for this process alone; stored again after a change."""
        try:
            with _lock(self._folder):
                envelopes = self._read()
                yield envelopes
                packed = pack([envelopes.packed(), self._openings])
                if packed != self._stored and len(envelopes):
                    self._files.write(self._name, packed)
                    self._stored = packed
        except EnvelopeError as error:
            raise VaultError(_REASONS[error.reason], _detail(error)) from None
        except StoreError as error:
            raise _unstored(error) from error

    def _read(self) -> Envelopes:
        if self._stored is None:
            self._files = Files(str(self._folder))
        stored = self._files.read(self._name)
        if stored is None:
            self._envelopes, self._openings = Envelopes(self._room), b""
        elif stored != self._stored:
            self._files = Files(str(self._folder))  # flushes what another process has written
            try:
                packed, *limit = unpack(stored)
                self._openings = limit[0] if limit else b""
                if len(limit) > 1 or len(self._openings) not in (0, LIMIT):
                    raise ValueError
                self._envelopes = Envelopes(self._room, packed or b"\0")  # empty is damaged
            except (EnvelopeError, RecordError, ValueError) as error:
                detail = f"{self._folder / self._name} is damaged: put back what was there"
                raise VaultError("locked", detail) from error
        self._stored = stored
        return self._envelopes


class EnvelopeRecords:
    """The records of all owners in one token. folder: of their files; made when missing. adopted:
    the point of an adopted provisioning key, or b""."""

    def __init__(self, folder: Path, adopted: bytes = b"") -> None:
        self.folder = folder
        digest = hashlib.sha256(b"plugvault adopted\0" + adopted).digest()
        self._adopted = digest[:OWNER] if adopted else b""

    def of(self, owner: bytes) -> Record:
        """The record of the owner's provisioning key."""
        return self.named(self._adopted or owner)

    def named(self, name: bytes) -> Record:
        """The record with a name that `owners` returned."""
        return Record(self.folder, f"{_NAME}-{name.hex()}" if name else _NAME)

    def bind(self, client: bytes, uses: bool = True) -> None:
        """Refuse an adopted key to every client but the first one that uses it.

        Raises: VaultError("refused" | "full" | "unavailable").
        """
        if not self._adopted:
            return
        name = f"client-{self._adopted.hex()}"
        try:
            with _lock(self.folder):
                files = Files(str(self.folder))
                stored = files.read(name)
                if stored is None and uses:
                    files.write(name, pack([client]))
        except StoreError as error:
            raise _unstored(error) from error
        if stored not in (None, pack([client])):
            raise VaultError("refused", f"the adopted key is another client's, by {name}")

    def owners(self) -> list[bytes]:
        """The owners with a record."""
        if not self.folder.is_dir():
            return []
        names = sorted(file.name for file in self.folder.glob(f"{_NAME}*"))
        matches = [_OWNED_FILE.fullmatch(name) for name in names]
        return [bytes.fromhex(match[1] or "") for match in matches if match]


def records_of(
    vault: TokenVault, location: TokenLocation, state: Path | str | None = None
) -> EnvelopeRecords:
    """The records of an open token. state: a folder for them; None: see the module."""
    token: Any = vault._backend._token.session.token
    adopted = vault.public(PROVISIONING) if vault._adopted else b""
    if state is None:
        token_folder = files_folder(location, token.label, token.serial)
        if token_folder:
            return EnvelopeRecords(token_folder / _FOLDER, adopted)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) if state else Path(home) / _FOLDER
    # Not by the serial number alone: some libraries give all their tokens the same.
    serial = token.serial.decode(errors="replace")
    identity = f"{location.module.name}\0{token.label}\0{serial}"
    folder = folder.absolute() / hashlib.sha256(identity.encode()).hexdigest()[:24]
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        detail = f"no place for the record of envelopes: {error.strerror}: {folder}; say state="
        raise VaultError("unavailable", detail) from error
    return EnvelopeRecords(folder, adopted)


def unlock(
    location: TokenLocation, pin: str, state: str | None, owner: str | None
) -> list[dict[str, Any]]:
    """Lift the lock of an owner's record, or of all: [{"owner", "mismatches"}], the mismatches
    that were counted before. owner: in hexadecimal digits; None for all.

    Raises: VaultError("not-found" | "unavailable").
    """
    with contextlib.closing(location.open(pin)) as vault:
        records = records_of(vault, location, state)
        owners = [owner.hex() for owner in records.owners()]
        if owner is not None and owner not in owners:
            raise VaultError("not-found", f"{records.folder} has no record of {owner or 'nobody'}")
        return [
            {"owner": each, "mismatches": records.named(bytes.fromhex(each)).unlock()}
            for each in (owners if owner is None else [owner])
        ]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other processes from the records in this folder, which is made when missing."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = file_lock.acquire(folder, _LOCK_TIMEOUT)
    except TimeoutError:
        raise VaultError("unavailable", f"another process keeps {folder} to itself") from None
    except OSError as error:
        reason = "full" if error.errno in _FULL else "unavailable"
        raise VaultError(reason, f"{folder}: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(descriptor)


def _unstored(error: StoreError) -> VaultError:
    reason = "full" if error.reason in ("full", "read-only") else "unavailable"
    return VaultError(reason, f"the record of envelopes: {error}")


def _detail(error: EnvelopeError) -> str:
    if error.reason == "mismatched":
        return ""  # as at the first time
    if error.reason == "locked":
        return f"{error.detail}; its owner lifts this: plugvault vault unlock"
    return str(error.detail)
