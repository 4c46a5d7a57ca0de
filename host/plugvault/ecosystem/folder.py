"""The folder of an ecosystem: its files beside the database, for their owner alone.

    secrets.json      0600: the tokens' PINs, the roles' credentials, the webhooks' signing key
    tokens/           SoftHSM's tokens, one for each company with keys
    certificates/     PEM of every authority and leaf of the ecosystem itself
    partners.json     0600: credentials for other ecosystems [`links`]

A start uses the tokens, keys, certificates and credentials that are here, and makes only missing
ones. So the next start completes one that was interrupted. One process at a time may write to a
folder; any number may read it.
"""

import errno
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evcc.errors import EvccError
from plugvault import file_lock, json_file
from plugvault.ecosystem.companies import CALLERS
from plugvault.tokens import Hsm, Token, TokenStore, VaultError
from plugvault.tokens.selection import TokenConfiguration

log = logging.getLogger("plugvault.ecosystem.folder")

T = TypeVar("T")
SECRETS = "secrets.json"
PATIENCE = 60.0  # seconds a start waits for another one that makes the folder
_LOOK = 0.1  # seconds between two looks at its lock


class FolderError(EvccError):
    """A folder that cannot be used. It is unchanged."""

    REASONS = (
        "unknown",  # its files are damaged, or of no known plugvault
        "foreign",  # it has other files, and other users may reach them
    )


class Folder:
    """One ecosystem's folder, made when missing. Raises FolderError.

    `module`: the PKCS#11 library. `tokens`: a folder of tokens shared with other ecosystems,
    because a process can have only one open; the tokens' labels then begin with this folder's
    name. `role_tokens`: the user's own tokens by role, in place of tokens in this folder.
    """

    def __init__(
        self,
        directory: Path,
        module: Path | None = None,
        tokens: Path | None = None,
        role_tokens: Mapping[str, TokenConfiguration] = {},
    ) -> None:
        self.directory = directory
        self._role_tokens = role_tokens
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(directory)
        self._prefix = f"{directory.name}-" if tokens else ""
        self._tokens = TokenStore(tokens or directory / "tokens", module)
        self._file = directory / SECRETS
        self._secrets: dict[str, dict[str, object]] = {}
        if self._file.exists():
            self._secrets = _read(self._file)
        self._certificates = directory / "certificates"
        self._certificates.mkdir(mode=0o700, exist_ok=True)

    def secret(self, section: str, name: str, make: Callable[[], T]) -> T:
        """The value of this name in a section, plain JSON. A missing value is made by `make()` and
        stored."""
        values = self._secrets.setdefault(section, {})
        if name not in values:
            values[name] = make()
            write(self._file, json.dumps(self._secrets, indent=1).encode())
        return values[name]  # type: ignore[return-value]  # `make` of this name once made it

    def pin(self, label: str) -> str:
        """The PIN of a token of this ecosystem. A missing one is made."""
        return self.secret("pins", label, lambda: secrets.token_hex(8))

    def tokens(self, stack: ExitStack, *labels: str) -> dict[str, Token]:
        """The tokens of these roles, logged in until `stack` ends; missing ones are made.

        Raises VaultError, "refused" when a role's keys would be in another token than before.
        """
        self._check_role_tokens(labels)
        self.make_tokens(*labels)
        hsm = stack.enter_context(Hsm(self._tokens.module, self._tokens.conf))
        tokens = {}
        for label in labels:
            chosen = self._role_tokens.get(label)
            if chosen is None:
                tokens[label] = hsm.token(self._prefix + label, self.pin(label))
            else:
                location = chosen.location
                other = stack.enter_context(Hsm(location.module, location.conf, location.options))
                tokens[label] = other.token(location.label, chosen.pin)
        return tokens

    def _check_role_tokens(self, labels: Sequence[str]) -> None:
        """Refuse another token than before: the role would get new keys there, and its
        certificates are for the old ones."""
        tokens = {role: _description(chosen) for role, chosen in self._role_tokens.items()}
        if unknown := set(tokens) - set(labels):
            raise VaultError("refused", f"no role {min(unknown)}: there are {', '.join(labels)}")
        if len(set(tokens.values())) < len(tokens):
            raise VaultError("refused", "each role needs a token of its own")
        for label in labels:
            before = self._secrets.get("elsewhere", {}).get(label)
            if label in self._secrets.get("made", {}):
                before = "this folder"
            now = tokens.get(label, "this folder")
            if before and before != now:
                raise VaultError("refused", f"the keys of {label} are in {before}, not in {now}")
        for label, token in tokens.items():
            self.secret("elsewhere", label, partial(str, token))

    def make_tokens(self, *labels: str) -> None:
        """Make the missing tokens. A process that has tokens open does not see new ones: where
        several folders share their tokens, make all of them before the first is opened. Raises
        VaultError."""
        existing = {**self._secrets.get("made", {}), **self._role_tokens}
        missing = [label for label in labels if label not in existing]
        if not missing:
            return
        # The PIN is stored first: a token without a known PIN could never be opened or replaced.
        self._tokens.init_tokens(
            {self._prefix + label: (self.pin(label), secrets.token_hex(8)) for label in missing}
        )
        for label in missing:
            self.secret("made", label, lambda: True)

    def certificate(self, name: str) -> bytes | None:
        """A stored certificate, DER; None when there is none."""
        file = self._certificates / f"{name}.pem"
        if not file.exists():
            return None
        return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)

    def names(self, pattern: str) -> list[str]:
        """The names of the stored certificates that match a pattern such as "trusted-*"."""
        return sorted(file.stem for file in self._certificates.glob(f"{pattern}.pem"))

    def store_certificate(self, name: str, certificate: bytes) -> None:
        """Store a certificate (DER) as PEM under a name, or replace it."""
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        write(self._certificates / f"{name}.pem", pem)


def _make_private(directory: Path) -> None:
    """Shut others out of the folder, unless it has files that are not ours. Raises
    FolderError("foreign")."""
    if not directory.stat().st_mode & 0o077:
        return
    if not (directory / SECRETS).exists() and any(directory.iterdir()):
        detail = "it has other files, and is open to other users; name a new folder"
        raise FolderError("foreign", f"{directory}: {detail}")
    directory.chmod(0o700)


def _read(file: Path) -> dict[str, dict[str, object]]:
    """The sections of `secrets.json`. Raises FolderError("unknown")."""
    try:
        sections = json_file.read(file)
    except json_file.JsonError as error:
        sections = error
    is_known = isinstance(sections, dict) and all(
        isinstance(section, dict) for section in sections.values()
    )
    if not is_known:
        detail = "use the plugvault that made this folder, or another --data folder"
        raise FolderError("unknown", f"{file} is of no known plugvault, or damaged: {detail}")
    return dict(sections)


def _description(configuration: TokenConfiguration) -> str:
    return f"{configuration.location.label} of {configuration.location.module}"


@contextmanager
def sandbox_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of a folder, made when missing, so that one sandbox, or another command that
    changes the folder, uses it at a time. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = file_lock.acquire(directory, timeout=0)
    except TimeoutError as error:
        reason = "another command is using it, such as a sandbox, or a station that is starting"
        raise OSError(errno.EBUSY, reason, str(directory)) from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def making(directory: Path) -> Iterator[bool]:
    """Hold the lock of a folder, made when missing, while its missing parts are made. False, and
    nothing may be made, while a sandbox or another process holds it and the folder is complete.
    Raises OSError when an incomplete folder stays locked for `PATIENCE` seconds."""
    begun, is_told = time.monotonic(), False
    with ExitStack() as stack:
        while not (is_ours := _holds(stack, directory)) and not _is_complete(directory):
            waited = time.monotonic() - begun
            if waited > PATIENCE:
                raise OSError(errno.EBUSY, "another process is making it", str(directory))
            if waited > file_lock.SILENCE and not is_told:
                is_told = True
                text = "another process is making %s: waiting up to %.0f s for it"
                log.warning(text, directory, PATIENCE)
            time.sleep(_LOOK)
        yield is_ours


def _holds(stack: ExitStack, directory: Path) -> bool:
    """Whether this process has the folder's lock now, until `stack` ends."""
    try:
        stack.enter_context(sandbox_lock(directory))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _is_complete(directory: Path) -> bool:
    """Whether the folder has the credentials of all its roles, which are made last."""
    file = directory / SECRETS
    clients = _read(file).get("clients", {}) if file.exists() else {}
    return all(caller.name in clients for caller in CALLERS)


def write(file: Path, content: bytes) -> None:
    """Replace a file, readable by its owner alone. A reader sees either the old content or the new
    content."""
    new = file.with_name(f".{file.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
