"""The certificate signatures that were found good, so that a board verifies a chain only once.

One fact alone is remembered: this signature over this digest by this key is good. That never
changes. Dates, revocation, anchors and the rules of a path are judged at each use. A bad
signature, and one that the vault could not judge, are not remembered. No entry survives a restart.
"""

import hashlib

ROOM = 32  # signatures: 16 anchors, three chains, and some more; 1.5 KiB of heap


class Verified:
    """verify: (point, digest, signature) -> bool, asked for each signature that is new."""

    def __init__(self, verify) -> None:
        self._verify = verify
        self._good: list = []  # SHA-256 of key, digest and signature, the last used at the end

    def check(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """Whether the signature is right. point: 65 bytes. digest: 32 bytes. signature: r‖s, 64
        bytes. Raises: the errors of `verify`."""
        if len(point) != 65 or len(digest) != 32:  # else two triples could have one hash
            return self._verify(point, digest, signature)
        name = hashlib.sha256(point + digest + signature).digest()
        if name in self._good:
            self._good.remove(name)
        elif not self._verify(point, digest, signature):
            return False
        self._good.append(name)
        if len(self._good) > ROOM:
            self._good.pop(0)
        return True
