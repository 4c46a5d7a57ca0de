"""The custody levels: the parts of a contract key that are ever outside its token, and the level
that a token reaches.

L3: nothing leaves the token. L2: the content key K is in this process's memory, the scalar never.
L1+: K and the scalar are, the ECDH secret Z is not. L1: all three are. Each is wiped after use.

The list of mechanisms of a token is no proof: NSS does mechanisms that it does not list. So
`survey` tries: with throw-away keys of the session it is the sender, opens the envelope by each
recipe of `opening`, the best first, tries to read every object that the recipe makes, and has the
new key sign. A level says nothing about a process under an attacker's control: a process that may
use the provisioning key can make the token do anything its flags allow.
"""

from collections import namedtuple

from . import VaultError
from .cryptoki import (
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_EXTRACTABLE,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKM_ECDH1_DERIVE,
    secret_template,
)
from .levels import LEVELS
from .nss import DIALECT as NSS
from .opening import COUNTER, PLAIN, Opening, xor
from .schemes import SCHEMES

RECIPES = {
    "aes-cbc": (
        ("L3", Opening.rewrap),
        ("L2", Opening.splice),
        ("L1+", Opening.import_hashed),
        ("L1", Opening.import_read),
    ),
}
DIALECTS = (PLAIN, NSS)
_DIGEST = bytes(32)

# How a token opens an envelope. level: "" where no recipe works; missing: what the next level
# lacks; recipe: a method of `Opening`, or None; dialect: the library's, of DIALECTS.
Method = namedtuple("Method", ("level", "missing", "recipe", "dialect"))


def at_least(level: str, minimum: str) -> bool:
    """Whether custody `level` ("": none) is no weaker than `minimum`. ValueError: not a level."""
    return level in LEVELS[LEVELS.index(minimum) :]


def survey(backend) -> dict:
    """{scheme: Method} of a token. Leaves no object in it.

    Raises VaultError where the token does not make the keys for a trial.
    """
    return {name: _Trial(backend, row).run(_Trial.best) for name, row in SCHEMES.items()}


def works(backend, row, method) -> bool:
    """Whether a method from `survey` works now. row: of `schemes.SCHEMES`. Leaves no object in the
    token. Raises as `survey` does."""
    return _Trial(backend, row).run(
        lambda trial: not trial.failed_step(method.level, method.recipe, method.dialect)[0]
    )


class _Trial:
    """An envelope of one scheme that this session has sealed, with the token's help, to itself."""

    def __init__(self, backend, row) -> None:
        self._backend = backend
        self._row = row
        self._objects = []

    def run(self, examine):
        """examine(this trial), with a sealed envelope."""
        try:
            self._seal()
            return examine(self)
        finally:
            for handle in self._objects:
                self._backend.destroy(handle)

    def best(self) -> Method:
        missing = "nothing is missing"
        for level, recipe in RECIPES[self._row.cipher]:
            for dialect in DIALECTS:
                step, makes_key = self.failed_step(level, recipe, dialect)
                if not step:
                    return Method(level, missing, recipe, dialect)
                if not makes_key:  # a failure before it, which no dialect changes
                    break
            missing = "%s needs %s" % (level, step)
        return Method("", missing, None, PLAIN)

    def _pair(self) -> tuple:
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
        """The sender's part, except that the token has the ephemeral key and lets Z be read."""
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

    def failed_step(self, level, recipe, dialect) -> tuple:
        """(the step that the recipe fails at, or "", whether that step makes the key)."""
        backend, row = self._backend, self._row
        template = [
            (CKA_TOKEN, False),
            (CKA_PRIVATE, True),
            (CKA_SENSITIVE, True),
            (CKA_EXTRACTABLE, False),
            (CKA_SIGN, True),
            (CKA_DERIVE, False),
        ] + dialect.attributes(row.trial[1])
        opening = Opening(
            backend, row, self._private, self._dh_point, self._wrapped, template, dialect.copied
        )
        readable = []

        def inspect(objects):
            self._objects.append(objects[-1])
            for handle in objects:
                try:
                    backend.attribute(handle, CKA_VALUE)
                    readable.append(handle)
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
        return opening.step, opening.makes_key
