"""What a vault service remembers of the envelopes it was asked to open [`evcc.envelopes`].

One file for each owner of keys in the token, written and flushed before the token is asked, and
read anew each time: two services on one token share it, and so does the command that lifts a lock.
It lies in a folder `plugvault` among the token's own files where those are SoftHSM's or NSS's, so
that whoever copies or restores the token copies or restores both; else in a folder named after the
token. A file that is not whole is never replaced by an empty one.
"""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evcc.envelopes import EnvelopeError, Envelopes
from evcc.ports.files import Files, StoreError
from evcc.record import RecordError, pack, unpack
from evcc.vault import VaultError
from evcc.vault.pkcs11 import TokenVault
from evcc.vault.softhsm import token_folder
from plugvault import file_lock
from plugvault.tokens.location import TokenLocation

ROOM = 1024  # envelopes of an owner, 37 bytes each
_FOLDER, _NAME = "plugvault", "envelopes"
_PATIENCE = 2.0  # seconds for another process, which needs the file for a few milliseconds
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_REASONS = {"seen": "seen", "mismatched": "key-mismatch", "locked": "locked", "full": "full"}
_NSS = re.compile(r"configDir='sql:([^']*)' tokenDescription='([^']*)'")


class Record:
    """The envelopes of one owner. room: how many it takes."""

    def __init__(self, folder: Path, name: str, room: int = ROOM) -> None:
        self._folder, self._name, self._room = folder, name, room
        self._stored: bytes | None = None
        self._envelopes = Envelopes(room)

    def ask(self, provisioning: bytes, dh_point: bytes, wrapped: bytes, leaf: bytes) -> None:
        """The token is going to be asked to open this envelope: written down before it is.

        The arguments are those of `Envelopes.add`.
        Raises: VaultError("seen" | "key-mismatch" | "locked" | "full" | "unavailable").
        """
        with self._open() as envelopes:
            envelopes.add(provisioning, dh_point, wrapped, leaf)

    def mismatched(self, dh_point: bytes) -> None:
        """The token has opened an envelope, and its key was not its certificate's."""
        with self._open() as envelopes:
            envelopes.settle(dh_point, False)

    def unlock(self) -> int:
        """Lift the lock; how many mismatches were counted. What was seen stays seen."""
        with self._open() as envelopes:
            count = envelopes.mismatches
            envelopes.unlock()
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
        """What is stored, for this process alone; stored again if it has changed."""
        try:
            with _alone(self._folder):
                envelopes = self._read()
                yield envelopes
                packed = pack([envelopes.packed()])
                if packed != self._stored and len(envelopes):
                    self._files.write(self._name, packed)
                    self._stored = packed
        except EnvelopeError as error:
            raise VaultError(_REASONS[error.reason], _said(error)) from None
        except StoreError as error:
            reason = "full" if error.reason in ("full", "read-only") else "unavailable"
            raise VaultError(reason, f"the record of envelopes: {error}") from error

    def _read(self) -> Envelopes:
        if self._stored is None:
            self._files = Files(str(self._folder))
        stored = self._files.read(self._name)
        if stored is None:
            self._envelopes = Envelopes(self._room)
        elif stored != self._stored:
            self._files = Files(str(self._folder))  # flushes what another process has written
            try:
                (packed,) = unpack(stored)
                self._envelopes = Envelopes(self._room, packed or b"\0")  # nothing is not whole
            except (EnvelopeError, RecordError, ValueError) as error:
                said = f"{self._folder / self._name} is damaged: put back what was there"
                raise VaultError("locked", said) from error
        self._stored = stored
        return self._envelopes


class Records:
    """Those of all owners in one token. folder: where they are; made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, owner: bytes) -> Record:
        return Record(self.folder, f"{_NAME}-{owner.hex()}" if owner else _NAME)

    def owners(self) -> list[bytes]:
        """Whose there are."""
        if not self.folder.is_dir():
            return []
        names = [one.name for one in self.folder.glob(f"{_NAME}*")]
        found = re.compile(rf"{_NAME}(?:-((?:[0-9a-f]{{2}}){{8}}))?")
        matches = [found.fullmatch(name) for name in sorted(names)]
        return [bytes.fromhex(match[1] or "") for match in matches if match]


def records_of(
    vault: TokenVault,
    module: Path | str,
    conf: Path | str | None,
    options: str,
    state: Path | str | None = None,
) -> Records:
    """The records of an open token. module, conf, options: what opened it. state: a folder for
    them, else it is found as the head of this file says."""
    token: Any = vault._backend._token.session.token
    if state is None:
        beside = _of_softhsm(conf, token.serial) or _of_nss(options, token.label)
        if beside:
            return Records(beside / _FOLDER)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) if state else Path(home) / _FOLDER
    # The serial number alone does not tell: some libraries give all their tokens the same.
    which = "\0".join((Path(module).name, token.label, token.serial.decode(errors="replace")))
    folder = folder.absolute() / hashlib.sha256(which.encode()).hexdigest()[:24]
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        said = f"no place for the record of envelopes: {error.strerror}: {folder}; say state="
        raise VaultError("unavailable", said) from error
    return Records(folder)


def unlock(
    location: TokenLocation, pin: str, state: str | None, owner: str | None
) -> list[dict[str, Any]]:
    """Lift the lock of an owner's record, or of all: [{"owner", "mismatches"}], the mismatches
    that were counted before. owner: in hexadecimal digits; None for all.

    Raises: VaultError("not-found" | "unavailable").
    """
    with contextlib.closing(location.open(pin)) as vault:
        records = records_of(vault, location.module, location.conf, location.options, state)
        owners = [owner.hex() for owner in records.owners()]
        if owner is not None and owner not in owners:
            raise VaultError("not-found", f"{records.folder} has no record of {owner or 'nobody'}")
        return [
            {"owner": each, "mismatches": records.of(bytes.fromhex(each)).unlock()}
            for each in (owners if owner is None else [owner])
        ]


def _of_softhsm(conf: Path | str | None, serial: bytes) -> Path | None:
    """The folder of the token with that serial number."""
    tokens = token_folder(conf)
    if not tokens:
        return None
    for file in Path(tokens).glob("*/token.object"):
        with contextlib.suppress(OSError):
            if serial in file.read_bytes():
                return file.parent
    return None


def _of_nss(options: str, label: str) -> Path | None:
    """The folder of the token's database."""
    folders = {name: folder for folder, name in _NSS.findall(options)}
    return Path(folders[label]) if label in folders else None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process reads or writes the records of this folder, which is made if need be."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = file_lock.acquire(folder, _PATIENCE)
    except TimeoutError:
        raise VaultError("unavailable", f"another process keeps {folder} to itself") from None
    except OSError as error:
        reason = "full" if error.errno in _FULL else "unavailable"
        raise VaultError(reason, f"{folder}: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(descriptor)


def _said(error: EnvelopeError) -> str:
    if error.reason == "mismatched":
        return ""  # as at the first time
    if error.reason == "locked":
        return f"{error.detail}; its owner lifts this: plugvault vault unlock"
    return str(error.detail)
