"""The ladder of custody: what of a contract key was ever outside of its token, and which rung a
token reaches.

L3: nothing leaves the token. L2: the content key K is in this process's memory, the scalar never.
L1+: K and the scalar are, the ECDH secret Z is not. L1: all three are, each wiped after use.

What a token says it can do is wrong both ways (NSS does what it does not list), so `survey` does
it: with throw-away keys of the session it is the sender, opens the envelope by each recipe of
`opening`, the best first, tries to read every object on the way, and has the key that comes out
sign. Says nothing of a process that is under another's control: whoever may use our key can make
the token do anything that its flags allow.
"""

from . import VaultError
from .cryptoki import (
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_EXTRACTABLE,
    CKA_NSS_DB,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKM_ECDH1_DERIVE,
)
from .levels import LEVELS
from .opening import COUNTER, Opening, secret_template, xor
from .schemes import SCHEMES

RECIPES = {
    "aes-cbc": (
        ("L3", Opening.rewrap),
        ("L2", Opening.splice),
        ("L1+", Opening.import_hashed),
        ("L1", Opening.import_read),
    ),
}
_DIGEST = bytes(32)


def at_least(level: str, minimum: str) -> bool:
    """Whether custody `level` ("": none) is no weaker than `minimum`. ValueError: not a level."""
    return level in LEVELS[LEVELS.index(minimum) :]


def survey(backend) -> dict:
    """{scheme: (level, why, recipe, is_nss)} of the token of `backend`. Leaves nothing in it.

    why: what the next level lacks. level "", recipe None: no way works. is_nss: whether a key's
    template needs CKA_NSS_DB. Raises VaultError when the token does not make the keys for a trial.
    """
    return {name: _Trial(backend, row).result(_Trial.best) for name, row in SCHEMES.items()}


def works(backend, row, way) -> bool:
    """Whether a way that `survey` found works now. Leaves nothing. Raises as `survey` does."""
    level, _, recipe, is_nss = way
    return _Trial(backend, row).result(lambda trial: not trial.fault(level, recipe, is_nss)[0])


class _Trial:
    """Of one scheme: an envelope, made with the token's help, that this session can open."""

    def __init__(self, backend, row) -> None:
        self._backend = backend
        self._row = row
        self._objects = []

    def result(self, of):
        """of(this), while the envelope is there."""
        try:
            self._seal()
            return of(self)
        finally:
            for made in self._objects:
                self._backend.destroy(made)

    def best(self) -> tuple:
        why = "nothing is missing"
        for level, recipe in RECIPES[self._row.cipher]:
            for is_nss in (False, True):
                fault, last = self.fault(level, recipe, is_nss)
                if not fault:
                    return level, why, recipe, is_nss
                if not last:
                    break
            why = "%s needs %s" % (level, fault)
        return "", why, None, False

    def _pair(self):
        """A key pair of this session, for ECDH only: private object, point."""
        common = [(CKA_TOKEN, False)]
        public = common + [(CKA_PRIVATE, False), (CKA_EC_PARAMS, self._row.ec_params)]
        private = common + [
            (CKA_PRIVATE, True),
            (CKA_SENSITIVE, True),
            (CKA_EXTRACTABLE, False),
            (CKA_DERIVE, True),
        ]
        pair = self._backend.generate(public, private)
        self._objects += pair
        return pair[1], self._backend.attribute(pair[0], CKA_EC_POINT)[-self._row.point_length :]

    def _seal(self) -> None:
        """What a sender does, but that the token has the ephemeral key and tells Z."""
        backend, row = self._backend, self._row
        self._private, point = self._pair()
        ephemeral, self._dh_point = self._pair()
        template = secret_template(len(row.order), sensitive=False, extractable=True)
        z = backend.derive(CKM_ECDH1_DERIVE, ephemeral, point, template)
        self._objects.append(z)
        z = backend.attribute(z, CKA_VALUE)
        key = row.hashed(COUNTER + z + row.other_info)[: row.key_length]
        block = self._wrapped = backend.random(16)
        for at in range(0, len(row.trial[0]), 16):
            block = backend.ecb(key, True, xor(block, row.trial[0][at : at + 16]))
            self._wrapped += block

    def fault(self, level, recipe, is_nss) -> tuple:
        """(what the recipe failed at or "", whether that was the making of the key)."""
        backend, row = self._backend, self._row
        template = [
            (CKA_TOKEN, False),
            (CKA_PRIVATE, True),
            (CKA_SENSITIVE, True),
            (CKA_EXTRACTABLE, False),
            (CKA_SIGN, True),
            (CKA_DERIVE, False),
        ]
        if is_nss:
            template.append((CKA_NSS_DB, row.trial[1]))
        opening = Opening(backend, row, self._private, self._dh_point, self._wrapped, template)
        readable = []

        def inspect(objects):
            self._objects.append(objects[-1])
            for one in objects:
                try:
                    backend.attribute(one, CKA_VALUE)
                    readable.append(one)
                except VaultError:
                    pass

        try:
            key = opening.run(recipe, inspect)
            opening.step = "objects that cannot be read"
            if len(readable) <= (level == "L1"):  # L1 has to read Z
                opening.step = "a key that can only sign and proves itself"
                if any(backend.attribute(key, CKA_DERIVE)):
                    raise VaultError("refused")
                if backend.verify(row.trial[1], _DIGEST, backend.sign(key, _DIGEST)):
                    return "", False
        except VaultError:
            pass
        return opening.step, opening.last
