"""NSS softoken: its library, and a private store of tokens in a directory.

A token is a pair of SQLite files in a folder. NSS reads no configuration: the text for
C_Initialize names every folder [`plugvault.cryptoki.nss`], so make the tokens of a store first and
then open them. The PIN guards the private keys; there is no security officer's PIN.
"""

import re
import shutil
from pathlib import Path

from evcc.vault import VaultError
from plugvault.tokens.creation import NewToken, create_tokens

# Debian and Ubuntu; Fedora; Arch and Alpine; Homebrew.
_MODULES = (
    "/usr/lib/*/libsoftokn3.so",
    "/usr/lib/*/nss/libsoftokn3.so",
    "/usr/lib64/libsoftokn3.so",
    "/usr/lib/libsoftokn3.so",
    "/opt/homebrew/lib/libsoftokn3.so",
)
_FIRST_SLOT = 16  # NSS itself uses those below
_TOKEN = re.compile(r"configDir='sql:([^']*)' tokenDescription='([^']*)'")
_QUOTES = set("'\"\\<>[](){}=")


def find_module() -> Path:
    """The library of this machine. Raises: VaultError("module-missing")."""
    for pattern in _MODULES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            return path
    raise VaultError("module-missing", "no NSS softoken here: apt-get install libnss3")


class NssStore:
    """A directory of NSS tokens, readable by its owner only; each is a folder named as the token.

    Opening an existing directory again finds the tokens that are in it.
    """

    def __init__(self, directory: Path | str, module: Path | str | None = None) -> None:
        self.module = Path(module) if module else find_module()
        self.directory = Path(directory).resolve()
        if _QUOTES & set(str(self.directory)) or not str(self.directory).isprintable():
            raise VaultError(
                "refused", f"NSS cannot be told of a folder named {str(self.directory)!r}"
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    @property
    def options(self) -> str:
        """The text for C_Initialize that names these tokens. It changes with every new token."""
        labels = sorted(folder.name for folder in self.directory.iterdir())
        return "flags=noModDB tokens=<{}>".format(
            " ".join(
                f"{slot:#x}=[configDir='sql:{self.directory / label}' tokenDescription='{label}']"
                for slot, label in enumerate(labels, _FIRST_SLOT)
            )
        )

    def init_token(self, label: str, user_pin: str) -> None:
        """Make an empty token. label: 1 to 32 bytes, a folder's name; user_pin: 1 to 255 bytes.

        Raises: VaultError("exists" | "refused" | "pin" | "full" | "unavailable").
        """
        folder = self.directory / label
        if (
            folder.parent != self.directory
            or _QUOTES & set(label)
            or not label.isprintable()
            or label.startswith(".")
        ):
            raise VaultError("refused", f"NSS tokens are not named {label!r}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            raise VaultError("exists", "a token with this label is there") from None
        try:
            create_tokens(self.module, [NewToken(label, user_pin)], options=self.options)
        except VaultError:
            shutil.rmtree(folder)
            raise


def files_folder(options: str, label: str) -> Path | None:
    """The folder of a token's files. options: the text for C_Initialize."""
    folders = {label: folder for folder, label in _TOKEN.findall(options)}
    return Path(folders[label]) if label in folders else None
