"""A key pair that was in the token before the car, and is its provisioning key: never copied, and
never destroyed by the car.

The configuration names the private key by `object` (CKA_LABEL), `id` (CKA_ID) or both, as in
"pkcs11:object=car%2017;id=%01". The public half is the one with the same CKA_ID; where the private
key has none, the one with the same label. Whatever leaves a doubt is refused: two that match, half
of a pair, another curve, a key that cannot both sign and derive.
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
    """name: the URI. One car's alone: the first owner that claims it.

    Raises VaultError("refused") for a name that is none.
    """

    def __init__(self, name: str) -> None:
        said = uri.parse(name)
        self._wanted = [
            (kind, said[word])
            for word, kind in (("object", CKA_LABEL), ("id", CKA_ID))
            if said[word]
        ]
        if not self._wanted or said["type"] not in (b"", b"private"):
            raise VaultError("refused", "a key is named by object= or id=: " + name)
        self.name = name
        self._owner = b""

    def claim(self, owner: bytes) -> None:
        """Raises VaultError("refused") for a second owner."""
        if owner and self._owner and owner != self._owner:
            raise VaultError("refused", "the adopted key is another car's")
        self._owner = owner or self._owner

    def pair(self, backend) -> tuple:
        """(private object, point, public object). Raises VaultError("not-found" | "refused")."""
        private = self._only(backend, CKO_PRIVATE_KEY, self._wanted)
        if private is None:
            raise VaultError("not-found", "no private key is called " + self.name)
        if backend.attribute(private, CKA_EC_PARAMS) != _CURVE.ec_params:
            raise VaultError("refused", self.name + " is not on P-256")
        for kind, word in ((CKA_SIGN, "sign"), (CKA_DERIVE, "derive")):
            if not any(backend.attribute(private, kind)):
                raise VaultError("refused", self.name + " may not " + word)
        same = backend.attribute(private, CKA_ID)
        wanted = [(CKA_ID, same)] if same else [(CKA_LABEL, backend.attribute(private, CKA_LABEL))]
        public = self._only(backend, CKO_PUBLIC_KEY, wanted)
        if public is None:
            raise VaultError("refused", self.name + " lacks its public half")
        point = backend.attribute(public, CKA_EC_POINT)[-_CURVE.point_length :]
        if not _CURVE.on_curve(point):
            raise VaultError("refused", "the public half of " + self.name + " is not on P-256")
        return private, point, public

    def _only(self, backend, kind: int, wanted: list):
        """The one object of that kind with these attributes, or None."""
        found = _matching(backend, kind, wanted)
        if not found:
            backend.reload()
            found = _matching(backend, kind, wanted)
        if len(found) > 1:
            half = "private" if kind == CKO_PRIVATE_KEY else "public"
            text = "%d %s keys are called %s: name one by id="
            raise VaultError("refused", text % (len(found), half, self.name))
        return found[0] if found else None


def _matching(backend, kind: int, wanted: list) -> list:
    # Looked at one by one: a damaged object can make every search by label or id fail.
    return [one for one in backend.find([(CKA_CLASS, kind)]) if _is(backend, one, wanted)]


def _is(backend, found, wanted: list) -> bool:
    try:
        return all(backend.attribute(found, kind) == value for kind, value in wanted)
    except VaultError:
        return False
