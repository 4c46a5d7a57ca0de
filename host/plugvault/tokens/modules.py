"""The PKCS#11 libraries of a machine, and a new token in one of them."""

import os
from pathlib import Path

from evcc.vault import VaultError
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.softhsm import find_module, initialise

# p11-kit's: the system's own and the administrator's, a file with `module: PATH` for each library.
_REGISTERED = ("/usr/share/p11-kit/modules", "/etc/pkcs11/modules")
_FOLDERS = ("/usr/lib/*/pkcs11", "/usr/lib64/pkcs11", "/usr/lib/pkcs11")  # of those without one


def known() -> list[str]:
    """Paths of libraries: SoftHSM's, and what is registered with p11-kit; each once."""
    try:
        found = [find_module()]
    except VaultError:
        found = []
    for folder in _REGISTERED:
        for file in sorted(Path(folder).glob("*.module")):
            for line in file.read_text(errors="replace").splitlines():
                name, _, path = line.partition(":")
                if name.strip() == "module":
                    found += _there(path.strip())
    return list(dict.fromkeys(os.path.realpath(path) for path in found))


def _there(path: str) -> list[Path]:
    if path.startswith("/"):
        return [Path(path)] if Path(path).is_file() else []
    pattern = (one for folder in _FOLDERS for one in Path("/").glob(f"{folder[1:]}/{path}"))
    return list(pattern)[:1]


def new_token(module: str, conf: str | None, label: str, pin: str, so_pin: str) -> TokenLocation:
    """A new token in a free slot of a library; none that is there is touched.

    Raises: VaultError("exists" | "pin" | "full" | "refused" | "module-missing" | "unavailable").
    """
    conf = conf or os.environ.get("SOFTHSM2_CONF")
    location = TokenLocation(Path(module), label, Path(conf) if conf else None)
    tokens = [{"label": label, "user": pin, "so": so_pin}]
    initialise({"module": module, "tokens": tokens, "keep": False}, location.env())
    return location
