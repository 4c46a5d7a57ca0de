"""An adopted key pair: it was in the token before the car, and is the car's provisioning key. The
car never copies it and never destroys it.

The configuration names the private key by `object` (CKA_LABEL), `id` (CKA_ID) or both, as in
"pkcs11:object=car%2017;id=%01". The public half is the one with the same CKA_ID; where the private
key has none, the one with the same label. Refused: two keys that match, half of a pair, another
curve, a key that cannot both sign and derive.
"""

from . import VaultError, uri
from .cryptoki import (
    CKA_CLASS,
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_ID,
    CKA_LABEL,
    CKA_SIGN,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from .schemes import SCHEMES

_CURVE = SCHEMES["iso2"]


class Adopted:
    """name: the URI. The key belongs to the first owner that claims it, and to no other.

    Raises VaultError("refused") for a URI that names no private key.
    """

    def __init__(self, name: str) -> None:
        fields = uri.parse(name)
        self._template = [
            (kind, fields[word])
            for word, kind in (("object", CKA_LABEL), ("id", CKA_ID))
            if fields[word]
        ]
        if not self._template or fields["type"] not in (b"", b"private"):
            raise VaultError("refused", "a key is named by object= or id=: " + name)
        self.name = name
        self._owner = b""

    def claim(self, owner: bytes) -> None:
        """Bind the key to the first owner that is not b"". Raises VaultError("refused") for a
        second one."""
        if owner and self._owner and owner != self._owner:
            raise VaultError("refused", "the adopted key is another car's")
        self._owner = owner or self._owner

    def pair(self, backend) -> tuple:
        """(private object, point of 65 bytes, public object).

        Raises VaultError("not-found" | "refused").
        """
        private = self._only(backend, CKO_PRIVATE_KEY, self._template)
        if private is None:
            raise VaultError("not-found", "no private key is called " + self.name)
        if backend.attribute(private, CKA_EC_PARAMS) != _CURVE.ec_params:
            raise VaultError("refused", self.name + " is not on P-256")
        for kind, word in ((CKA_SIGN, "sign"), (CKA_DERIVE, "derive")):
            if not any(backend.attribute(private, kind)):
                raise VaultError("refused", self.name + " may not " + word)
        shared = CKA_ID if backend.attribute(private, CKA_ID) else CKA_LABEL
        template = [(shared, backend.attribute(private, shared))]
        public = self._only(backend, CKO_PUBLIC_KEY, template)
        if public is None:
            raise VaultError("refused", self.name + " lacks its public half")
        point = backend.attribute(public, CKA_EC_POINT)[-_CURVE.point_length :]
        if not _CURVE.on_curve(point):
            raise VaultError("refused", "the public half of " + self.name + " is not on P-256")
        return private, point, public

    def _only(self, backend, kind: int, template: list):
        """The one object of a class with these attributes, or None."""
        handles = _matching(backend, kind, template)
        if not handles:
            backend.reload()
            handles = _matching(backend, kind, template)
        if len(handles) > 1:
            half = "private" if kind == CKO_PRIVATE_KEY else "public"
            text = "%d %s keys are called %s: name one by id="
            raise VaultError("refused", text % (len(handles), half, self.name))
        return handles[0] if handles else None


def _matching(backend, kind: int, template: list) -> list:
    # Compared one by one: a damaged object can make every search by label or id fail.
    handles = backend.find([(CKA_CLASS, kind)])
    return [handle for handle in handles if _matches(backend, handle, template)]


def _matches(backend, handle, template: list) -> bool:
    try:
        return all(backend.attribute(handle, kind) == value for kind, value in template)
    except VaultError:
        return False
