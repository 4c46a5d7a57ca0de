"""What SoftHSM needs beyond PKCS#11: room on the disk before it is told to store a key.

On a full disk SoftHSM may answer that a key was created which then is in its memory only, and
leaves empty files behind when it does not. It cannot be asked, so the disk is.
"""

import os

from . import VaultError

_ROOM = 65536  # bytes; a contract key takes two files and their locks


def token_folder(conf) -> "str | None":
    """directories.tokendir of the configuration file `conf`; None: not SoftHSM, or not said."""
    try:
        with open(conf or "") as file:
            lines = file.read().split("\n")
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == "directories.tokendir":
            return value.strip()
    return None


def check_room(folder) -> None:
    """Raises VaultError("full") when the disk of `folder` takes no key."""
    if folder is None:
        return
    disk = os.statvfs(folder)  # block size, fragment size, ..., blocks available at 4, flags at 8
    if disk[8] & 1:
        raise VaultError("full", "the disk of the token is read-only")
    if disk[1] * disk[4] < _ROOM:
        raise VaultError("full", "no room on the disk of the token")
