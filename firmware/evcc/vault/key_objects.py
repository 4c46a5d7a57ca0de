"""The objects of one owner's keys in a token: how they are found and destroyed.

Objects are found by CKA_ID, never by label: a damaged object can make every search by label fail.
Where one makes every search by id fail too, all keys are listed and each one's id is read. An
object counts as missing only after a reload: another process may have made it unseen.
"""

import time

from . import PROVISIONING, VaultError, labels
from .cryptoki import (
    CKA_CLASS,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKK_EC,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from .schemes import SCHEMES

CURVE = SCHEMES["iso2"]  # of the provisioning key, and of `verify`
KINDS = (CKO_PRIVATE_KEY, CKO_PUBLIC_KEY)
_CREATION = 1.0  # seconds: many times the duration of a key's creation


class KeyObjects:
    """The objects of one owner's keys. adopted: `adopted.Adopted`, or None. The vault sets
    `_owner`."""

    def __init__(self, backend, adopted) -> None:
        self._backend = backend
        self._adopted = adopted
        self._owner = b""
        self._id_search_fails = False

    def _load_pair(self, key: bytes) -> tuple:
        """(private object, point, public object) of a key that has both halves."""
        if key == PROVISIONING and self._adopted:
            return self._adopted.pair(self._backend)
        private = self._find(CKO_PRIVATE_KEY, key)
        public = self._find(CKO_PUBLIC_KEY, key)
        if not (private and public):
            raise VaultError("not-found", "no such key")
        # A token gives the point bare or as a DER octet string: both end in the point.
        point = self._backend.attribute(public[0], CKA_EC_POINT)[-CURVE.point_length :]
        return private[0], point, public[0]

    def _find(self, kind: int, key: bytes) -> list:
        if key and key != PROVISIONING and len(key) != 16:
            return []
        handles = self._search(kind, key)
        if not handles:
            self._backend.reload()
            handles = self._search(kind, key)
        return handles

    def _is_taken(self, key: bytes) -> bool:
        """Whether any owner's object has this CKA_ID: NSS would put the new key in its place."""
        self._backend.reload()
        try:
            return bool(self._backend.find([(CKA_ID, key)]))
        except VaultError:  # a damaged object, as in `_search`
            self._backend.reopen()
            self._forget_handles()
        handles = [handle for kind in KINDS for handle in list_keys(self._backend, kind)]
        return any(self._has_id(handle, key) for handle in handles)

    def _has_id(self, handle, key: bytes) -> bool:
        try:
            return self._backend.attribute(handle, CKA_ID) == key
        except VaultError:
            return False

    def _search(self, kind: int, key: bytes) -> list:
        handles = None
        if key and not self._id_search_fails:
            try:
                template = [(CKA_CLASS, kind), (CKA_ID, self._token_id(key))]
                handles = self._backend.find(template)
            except VaultError:
                # One damaged object can make every search by id fail, and leave the session in
                # the middle of the search. The key that was asked for may be undamaged.
                self._backend.reopen()
                self._id_search_fails = True
                self._forget_handles()
        if handles is None:
            handles = list_keys(self._backend, kind)
        return [handle for handle in handles if self._key_id(handle) == key]

    def _forget_handles(self) -> None:
        """Handles of the former session are void: for a subclass that caches them."""

    def _token_id(self, key: bytes) -> bytes:
        """CKA_ID of a key: each owner has a provisioning key of its own."""
        return key + self._owner if key == PROVISIONING else key

    def _key_id(self, handle):
        """The id of an object of this owner; b"" for an object with neither id, label nor curve,
        which an interrupted creation leaves; None for another owner's or an unreadable one."""
        try:
            token_id = self._backend.attribute(handle, CKA_ID)
            label = self._backend.attribute(handle, CKA_LABEL)
            if labels.owner_of(label) == self._owner:
                if token_id != self._token_id(PROVISIONING):
                    return token_id
                return None if self._adopted else PROVISIONING
            if not (token_id or label or self._backend.attribute(handle, CKA_EC_PARAMS)):
                return token_id
        except VaultError:
            pass
        return None

    def _destroy_objects(self, key: bytes) -> int:
        """Destroy every object of the key, the private half first. Returns their number."""
        handles = self._find(CKO_PRIVATE_KEY, key) + self._find(CKO_PUBLIC_KEY, key)
        if handles and not key:
            # An object that another program is creating has no id yet either.
            time.sleep(_CREATION)
            handles = [handle for handle in handles if self._key_id(handle) == key]
        for handle in handles:
            self._backend.destroy(handle)
        return len(handles)


def list_keys(backend, kind: int) -> list:
    """The handles of all EC keys of a class, CKO_*. The search uses attributes that no object
    lacks for long, and whose damage does not hide an object from it."""
    return backend.find([(CKA_CLASS, kind), (CKA_KEY_TYPE, CKK_EC)])
