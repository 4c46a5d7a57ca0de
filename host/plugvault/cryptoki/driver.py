"""The differences between token libraries, beyond PKCS#11.

`Driver` is for a library without any. `softhsm` and `nss` have the drivers of those two.
"""

import os
from pathlib import Path
from typing import Any

import pkcs11

from evcc.vault import softhsm
from evcc.vault.backend import TokenFiles

# The files that SoftHSM reads without SOFTHSM2_CONF, in its order.
_SOFTHSM_CONFS = ("~/.config/softhsm2/softhsm2.conf", "/etc/softhsm/softhsm2.conf")
_NSS_OPTIONS = "NSS is told its database, such as options \"configdir='sql:/srv/nss'\""


class Driver:
    """Loads a library. files: the backup and the repair of the token's files
    [`evcc.vault.backend.TokenFiles`]."""

    def __init__(self, files: TokenFiles | None = None) -> None:
        self.files = files or TokenFiles()

    def load(self, path: str) -> Any:
        """The library, initialised. Raises: RuntimeError | OSError | VaultError."""
        return pkcs11.lib(path)

    def unload(self, path: str, library: Any) -> None:
        library.unload()

    def trouble(self, path: str) -> str:
        """The reason why the library does not start, as far as this driver knows it; ""
        otherwise."""
        if "softokn" in path:
            return _NSS_OPTIONS
        if "softhsm" not in path:
            return ""
        files = [Path(name).expanduser() for name in _SOFTHSM_CONFS]
        conf = next((file for file in files if file.exists()), files[-1])
        return softhsm.trouble(os.environ.get("SOFTHSM2_CONF") or str(conf))
