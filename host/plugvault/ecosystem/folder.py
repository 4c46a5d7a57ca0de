"""What an ecosystem keeps on disk beside its database, in one folder for its owner alone.

    secrets.json      0600: the tokens' PINs, the roles' credentials, what webhooks are signed with
    tokens/           SoftHSM's, one token for each who has keys
    certificates/     PEM of every authority and leaf of the ecosystem itself
    partners.json     0600: what other ecosystems are called with [`links`]

Whatever is here is taken up again: a start finds the same tokens, keys, certificates and
credentials, and makes only what is missing. So a start that was interrupted is finished by the
next one. Only one process may make things in a folder at a time; many may read it.
"""

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from plugvault import file_lock
from plugvault.tokens import Hsm, Token, TokenStore, VaultError
from plugvault.tokens.selection import TokenConfiguration

T = TypeVar("T")


class Folder:
    """One ecosystem's folder, made when missing.

    `tokens`: a folder of tokens shared with other ecosystems, for a process can have only one
    open; the tokens' labels then begin with this folder's name. `module`: the PKCS#11 library.
    `role_tokens`: tokens of somebody's own, that are used for these labels in place of one here.
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
        directory.chmod(0o700)
        self._prefix = f"{directory.name}-" if tokens else ""
        self._tokens = TokenStore(tokens or directory / "tokens", module)
        self._file = directory / "secrets.json"
        self._secrets: dict[str, dict[str, object]] = {}
        if self._file.exists():
            self._secrets = json.loads(self._file.read_text())
        self._certificates = directory / "certificates"
        self._certificates.mkdir(mode=0o700, exist_ok=True)

    def secret(self, section: str, name: str, make: Callable[[], T]) -> T:
        """What is kept under this name, made and kept when it is not there: plain JSON."""
        kept = self._secrets.setdefault(section, {})
        if name not in kept:
            kept[name] = make()
            write(self._file, json.dumps(self._secrets, indent=1).encode())
        return kept[name]  # type: ignore[return-value]  # what `make` of this name once made

    def pin(self, label: str) -> str:
        """The PIN of a token of this ecosystem."""
        return self.secret("pins", label, lambda: secrets.token_hex(8))

    def tokens(self, stack: ExitStack, *labels: str) -> dict[str, Token]:
        """These tokens, logged in until `stack` ends; made when they are not there.

        Raises VaultError, "refused" where a role's keys would be in another token than before.
        """
        self._check_role_tokens(labels)
        self.make_tokens(*labels)
        hsm = stack.enter_context(Hsm(self._tokens.module, self._tokens.conf))
        opened = {}
        for label in labels:
            chosen = self._role_tokens.get(label)
            if chosen is None:
                opened[label] = hsm.token(self._prefix + label, self.pin(label))
            else:
                location = chosen.location
                other = stack.enter_context(Hsm(location.module, location.conf, location.options))
                opened[label] = other.token(location.label, chosen.pin)
        return opened

    def _check_role_tokens(self, labels: Sequence[str]) -> None:
        """A role whose keys were in one token would get others in another, under certificates
        that are for the first."""
        tokens = {role: _named(chosen) for role, chosen in self._role_tokens.items()}
        if unknown := set(tokens) - set(labels):
            raise VaultError("refused", f"no role {min(unknown)}: there are {', '.join(labels)}")
        if len(set(tokens.values())) < len(tokens):
            raise VaultError("refused", "each role needs a token of its own")
        for label in labels:
            kept = self._secrets.get("elsewhere", {}).get(label)
            if label in self._secrets.get("made", {}):
                kept = "this folder"
            now = tokens.get(label, "this folder")
            if kept and kept != now:
                raise VaultError("refused", f"the keys of {label} are in {kept}, not in {now}")
        for label, token in tokens.items():
            self.secret("elsewhere", label, partial(str, token))

    def make_tokens(self, *labels: str) -> None:
        """Make the tokens that are not there. A process that already has tokens open would not
        see new ones: where several folders share theirs, make all before the first is opened."""
        there = {**self._secrets.get("made", {}), **self._role_tokens}
        missing = [label for label in labels if label not in there]
        if not missing:
            return
        # The PIN is kept first: a token that nobody can open would be in the way for ever.
        self._tokens.init_tokens(
            {self._prefix + label: (self.pin(label), secrets.token_hex(8)) for label in missing}
        )
        for label in missing:
            self.secret("made", label, lambda: True)

    def certificate(self, name: str) -> bytes | None:
        """A certificate that is kept here: DER."""
        file = self._certificates / f"{name}.pem"
        if not file.exists():
            return None
        return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)

    def keep_certificate(self, name: str, certificate: bytes) -> None:
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        write(self._certificates / f"{name}.pem", pem)


def _named(chosen: TokenConfiguration) -> str:
    return f"{chosen.location.label} of {chosen.location.module}"


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One sandbox at a time works on a folder, made when missing. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = file_lock.acquire(directory, timeout=0)
    except TimeoutError as error:
        raise OSError(errno.EBUSY, "another sandbox is using it", str(directory)) from error
    try:
        yield
    finally:
        os.close(descriptor)


def write(file: Path, content: bytes) -> None:
    """Put a file in place whole, for its owner alone: a reader sees the old one or the new."""
    new = file.with_name(f".{file.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
