"""SoftHSM: where its library is, and a private store of tokens in a directory.

SoftHSM takes its configuration from the file that SOFTHSM2_CONF names, read when the library is
initialised; so one process sees one store at a time. Making a token is a change to that store
which an already initialised library does not see: make the tokens first, then open them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evcc.vault import VaultError
from evcc.vault.softhsm import SoftHsmFiles
from plugvault import file_lock

# Debian and Ubuntu; their multi-arch folder; Fedora; Arch and Alpine; from source; Homebrew.
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/*/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)

# reset_on_fork: a child must not use its parent's sessions. mechanisms=ALL is the default, said.
_CONF = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
slots.mechanisms = ALL
library.reset_on_fork = true
"""

_INITIALISE = Path(__file__).with_name("initialise.py")


def find_module() -> Path:
    """The SoftHSM library of this machine; PLUGVAULT_PKCS11_MODULE overrides the search.

    Raises: VaultError("module-missing").
    """
    wanted = os.environ.get("PLUGVAULT_PKCS11_MODULE")
    if wanted:
        if not Path(wanted).exists():
            said = f"{wanted} does not exist; PLUGVAULT_PKCS11_MODULE names it"
            raise VaultError("module-missing", said)
        return Path(wanted).absolute()
    for pattern in _MODULES:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            return path
    raise VaultError("module-missing", "no SoftHSM here: apt-get install softhsm2")


class TokenStore:
    """A directory of SoftHSM tokens with a configuration of its own, readable by its owner only.

    `conf`: the file for SOFTHSM2_CONF; `tokens`: where SoftHSM keeps the token objects.
    Opening an existing directory again finds the tokens that are in it.
    """

    def __init__(self, directory: Path | str, module: Path | str | None = None) -> None:
        self.module = Path(module) if module else find_module()
        self.directory = Path(directory).resolve()
        self.tokens = self.directory / "tokens"
        self.conf = self.directory / "softhsm2.conf"
        for folder in (self.directory, self.tokens):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        text = _CONF.format(tokens=self.tokens)
        if not self.conf.exists() or self.conf.read_text() != text:
            self.conf.touch(mode=0o600)
            self.conf.write_text(text)

    def env(self) -> dict[str, str]:
        """What to add to the environment of a process that opens these tokens."""
        return {"SOFTHSM2_CONF": str(self.conf)}

    def init_token(self, label: str, user_pin: str, so_pin: str) -> None:
        """Make an empty token, as `init_tokens` does. Raises VaultError, also "exists"."""
        self._init([{"label": label, "user": user_pin, "so": so_pin}], keep=False)

    def init_tokens(self, pins: Mapping[str, tuple[str, str]]) -> None:
        """Make empty tokens, but those that are there: user PIN and SO PIN by their labels. In one
        process of its own, the PINs on its stdin: they are never on a command line, and a library
        this process already uses is left alone.

        label: 1 to 32 bytes of UTF-8; PINs: 4 to 255 characters (SoftHSM's limits).
        Raises: VaultError("pin" | "full" | "module-missing" | "unavailable").
        """
        tokens = [{"label": label, "user": user, "so": so} for label, (user, so) in pins.items()]
        self._init(tokens, keep=True)

    def _init(self, tokens: list[dict[str, str]], keep: bool) -> None:
        SoftHsmFiles(str(self.tokens)).check_room()
        wanted = {"module": str(self.module), "tokens": tokens, "keep": keep}
        # SoftHSM fails on another's half-made token, so they are made one at a time.
        with file_lock.locked(self.conf):
            initialise(wanted, self.env())


def initialise(wanted: dict[str, Any], env: dict[str, str]) -> None:
    """Have the script of this name do `wanted`, with `env` added. Raises VaultError."""
    done = subprocess.run(
        [sys.executable, "-I", str(_INITIALISE)],
        input=json.dumps(wanted).encode(),
        env={**os.environ, **env},
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        reason, _, detail = done.stdout.decode().partition(": ")
        if reason not in VaultError.REASONS:
            reason, detail = "unavailable", f"the token library ended with {done.returncode}"
        raise VaultError(reason, detail)
