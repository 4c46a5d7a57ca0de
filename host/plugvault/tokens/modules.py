"""The PKCS#11 libraries of this machine, and a new token in one of them."""

import contextlib
import os
from pathlib import Path

from evcc.vault import VaultError
from plugvault.tokens.creation import NewToken, create_tokens
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.softhsm import find_module

# p11-kit's folders, of the system and of the administrator: a file with `module: PATH` for each.
_REGISTERED = ("/usr/share/p11-kit/modules", "/etc/pkcs11/modules")
_FOLDERS = (
    "/usr/lib/*/pkcs11",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
)  # for a PATH without a folder


def known() -> list[str]:
    """The paths of SoftHSM's library and of those that p11-kit has registered, each once."""
    paths = []
    with contextlib.suppress(VaultError):
        paths.append(find_module())
    for folder in _REGISTERED:
        for file in sorted(Path(folder).glob("*.module")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                name, _, path = line.partition(":")
                if name.strip() == "module":
                    paths += _existing(path.strip())
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def _existing(path: str) -> list[Path]:
    if path.startswith("/"):
        return [Path(path)] if Path(path).is_file() else []
    files = (file for folder in _FOLDERS for file in Path("/").glob(f"{folder[1:]}/{path}"))
    return list(files)[:1]


def new_token(module: str, conf: str | None, label: str, pin: str, so_pin: str) -> TokenLocation:
    """Make a token in a free slot of a library. No existing token is changed.

    Raises: VaultError("exists" | "pin" | "full" | "refused" | "module-missing" | "unavailable").
    """
    conf = conf or os.environ.get("SOFTHSM2_CONF")
    location = TokenLocation(Path(module), label, Path(conf) if conf else None)
    create_tokens(module, [NewToken(label, pin, so_pin)], location.env())
    return location
