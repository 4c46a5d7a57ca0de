"""The differences between token libraries, beyond PKCS#11.

`Driver` is for a library without any. `softhsm` and `nss` have the drivers of those two.
"""

from typing import Any

import pkcs11

from evcc.vault.backend import TokenFiles


class Driver:
    """Loads a library. files: its care for the files of its tokens."""

    def __init__(self, files: TokenFiles | None = None) -> None:
        self.files = files or TokenFiles()

    def load(self, path: str) -> Any:
        """The library, initialised. Raises: RuntimeError | OSError | VaultError."""
        return pkcs11.lib(path)

    def unload(self, path: str, library: Any) -> None:
        pkcs11.unload(path)
