"""The differences between token libraries, beyond PKCS#11.

`Driver` is for a library without any. `softhsm` and `nss` have the drivers of those two.
"""

from typing import Any

import pkcs11


class Driver:
    """Loads a library and cares for the files of its tokens. label: of a token."""

    # Whether a new object of the token is made in the session and then copied into the token.
    creates_by_copy = False

    def load(self, path: str) -> Any:
        """The library, initialised. Raises: RuntimeError | OSError."""
        return pkcs11.lib(path)

    def unload(self, path: str, library: Any) -> None:
        pkcs11.unload(path)

    def back_up(self, label: str) -> None:
        """Keep a copy of the files that a login rewrites. Called after a login."""

    def check_room(self) -> None:
        """Raises: VaultError("full") when there is no room for another key."""

    def flush(self, label: str) -> None:
        """Flush a token's files to the disk."""

    def reload(self, label: str) -> None:
        """Make the library read a token's files again, for the changes of other processes."""
