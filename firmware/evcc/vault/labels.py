"""CKA_LABEL of the vault's objects: what an object is, the custody of a contract key, its owner.

An owner is the car that the key belongs to: 8 bytes, or b"" for a key made before `claim`.
"""

import binascii

from . import OWNER
from .levels import LEVELS

_PROVISIONING = b"plugvault-provisioning"  # and " owner", where there is one
_CONTRACT = b"plugvault-contract "  # the custody level, and " owner"


def provisioning_key(owner: bytes) -> bytes:
    """The label of an owner's provisioning key."""
    return _with_owner(_PROVISIONING, owner)


def contract_key(level: str, owner: bytes) -> bytes:
    """The label of an owner's contract key. level: of `levels.LEVELS`."""
    return _with_owner(_CONTRACT + level.encode(), owner)


def _with_owner(words: bytes, owner: bytes) -> bytes:
    return words + b" " + binascii.hexlify(owner) if owner else words


def level_of(label: bytes) -> str:
    """The custody level in a contract key's label, or ""."""
    word = label[len(_CONTRACT) :].split(b" ")[0]
    for level in LEVELS:
        if word == level.encode():
            return level
    return ""


def owner_of(label: bytes):
    """The owner in a label, 8 bytes or b""; None for an object that no vault has made."""
    for prefix, words in ((_CONTRACT, 2), (_PROVISIONING, 1)):
        if label.startswith(prefix):
            fields = label.split(b" ")[words:]
            if len(fields) > 1:
                return None
            try:
                owner = binascii.unhexlify(fields[0] if fields else b"")
            except ValueError:
                return None
            return owner if len(owner) in (0, OWNER) else None
    return None
