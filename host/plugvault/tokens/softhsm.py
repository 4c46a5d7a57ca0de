"""SoftHSM: its library, and a private store of tokens in a directory.

SoftHSM reads its configuration from the file that SOFTHSM2_CONF names when it is initialised, so a
process sees one store at a time. An initialised library does not see new tokens: make the tokens
first, then open them.
"""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from evcc.vault import VaultError
from evcc.vault.softhsm import SoftHsmFiles, token_folder
from plugvault import file_lock
from plugvault.tokens.creation import NewToken, create_tokens

# Debian and Ubuntu; their multi-arch folder; Fedora; Arch and Alpine; from source; Homebrew.
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/*/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)

# reset_on_fork: a child must not use its parent's sessions.
_CONF = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
slots.mechanisms = ALL
library.reset_on_fork = true
"""


def find_module() -> Path:
    """The SoftHSM library of this machine; PLUGVAULT_PKCS11_MODULE overrides the search.

    Raises: VaultError("module-missing").
    """
    module = os.environ.get("PLUGVAULT_PKCS11_MODULE")
    if module:
        if not Path(module).exists():
            detail = f"{module} does not exist; PLUGVAULT_PKCS11_MODULE names it"
            raise VaultError("module-missing", detail)
        return Path(module).absolute()
    for pattern in _MODULES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            return path
    raise VaultError("module-missing", "no SoftHSM here: apt-get install softhsm2")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _check_name(folder: Path) -> None:
    """Refuse a folder that SoftHSM would read as another one: a line ends at "#" or a line break,
    and begins and ends without spaces. Raises VaultError("refused")."""
    name = str(folder)
    if "#" in name or not name.isprintable() or name != name.strip():
        raise VaultError("refused", f"SoftHSM cannot be told of a folder named {name!r}")


class TokenStore:
    """A directory of SoftHSM tokens with its own configuration, readable by its owner only.

    `conf`: the file for SOFTHSM2_CONF; `tokens`: the folder of the token objects. A new
    `TokenStore` on an existing directory has the tokens that are in it.
    """

    def __init__(self, directory: Path | str, module: Path | str | None = None) -> None:
        self.module = Path(module) if module else find_module()
        self.directory = Path(directory).resolve()
        _check_name(self.directory)
        self.tokens = self.directory / "tokens"
        self.conf = self.directory / "softhsm2.conf"
        try:
            self._make()
        except OSError as error:
            reason = "full" if error.errno in _FULL else "refused"
            text = f"no store of tokens in {self.directory}: {error.strerror}"
            raise VaultError(reason, text) from error

    def _make(self) -> None:
        for folder in (self.directory, self.tokens):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        text = _CONF.format(tokens=self.tokens)
        if not self.conf.exists() or self.conf.read_text(encoding="utf-8") != text:
            self.conf.touch(mode=0o600)
            self.conf.write_text(text, encoding="utf-8")

    def env(self) -> dict[str, str]:
        """The environment variables of a process that opens these tokens."""
        return {"SOFTHSM2_CONF": str(self.conf)}

    def init_token(self, label: str, user_pin: str, so_pin: str) -> None:
        """Make one empty token. Raises VaultError as `init_tokens`, and "exists"."""
        self._create([NewToken(label, user_pin, so_pin)], keep=False)

    def init_tokens(self, pins: Mapping[str, tuple[str, str]]) -> None:
        """Make the missing ones of these tokens, empty. pins: user PIN and security officer's PIN
        by label; PINs: 4 to 255 characters (SoftHSM's limits).

        Raises: VaultError("pin" | "full" | "module-missing" | "unavailable").
        """
        tokens = [NewToken(label, user_pin, so_pin) for label, (user_pin, so_pin) in pins.items()]
        self._create(tokens, keep=True)

    def _create(self, tokens: list[NewToken], keep: bool) -> None:
        SoftHsmFiles(str(self.tokens)).check_room()
        # SoftHSM fails while another process has made half of a token.
        with file_lock.locked(self.conf):
            create_tokens(self.module, tokens, self.env(), keep=keep)


def files_folder(conf: Path | str | None, serial: bytes) -> Path | None:
    """The folder of a token's files. conf: the file for SOFTHSM2_CONF; serial: the token's."""
    tokens = token_folder(conf)
    if not tokens:
        return None
    for file in Path(tokens).glob("*/token.object"):
        with contextlib.suppress(OSError):
            if serial in file.read_bytes():
                return file.parent
    return None
