"""Where a key came from, as far as its token attests it.

CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE say that a key was made in its token and
can never have been outside [PKCS#11 2.40, 4.4]. Which of them a library keeps to, and which
anybody can claim for a key that he brings, is found by doing: NSS denies CKA_LOCAL of the keys
that it made, and grants it to every key that is said to have it.

The flags lie in a token's files beside the key; who may write there can turn them. So the car
compares them with its own store [`levels.told`].
"""

from . import VaultError
from .cryptoki import (
    CKA_ALWAYS_SENSITIVE,
    CKA_CLASS,
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LOCAL,
    CKA_NEVER_EXTRACTABLE,
    CKA_NSS_DB,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VERIFY,
    CKK_EC,
    CKO_PRIVATE_KEY,
)
from .levels import EXTRACTABLE, IMPORTED, UNATTESTED

_ATTESTING = (CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE)


def attesting(backend, row) -> tuple:
    """The attributes that prove a key's origin in the token of `backend`: true of a key made
    there, and not of one that was written into it with that claim. Leaves nothing in the token.

    row: of `schemes.SCHEMES`. Raises VaultError when the token makes no key for the trial.
    """
    common = [(CKA_TOKEN, False)]
    public = common + [(CKA_PRIVATE, False), (CKA_VERIFY, True), (CKA_EC_PARAMS, row.ec_params)]
    pair = backend.generate(public, common + _FLAGS)
    try:
        made = [kind for kind in _ATTESTING if says(backend, pair[1], kind)]
    finally:
        for half in pair:
            backend.destroy(half)
    return tuple([kind for kind in made if not _claimed(backend, row, kind)])


def of_key(backend, private, attesting) -> str:
    """ "L3", or one of this file's words, for a private key object. attesting: as above."""
    if can_leave(backend, private):
        return EXTRACTABLE
    if not attesting:
        return UNATTESTED
    denied = [kind for kind in attesting if not says(backend, private, kind)]
    if not denied:
        return "L3"
    return EXTRACTABLE if CKA_LOCAL in attesting and CKA_LOCAL not in denied else IMPORTED


def can_leave(backend, private) -> bool:
    """Whether a private key object can be read or wrapped out, as its token says."""
    return says(backend, private, CKA_EXTRACTABLE) or not says(backend, private, CKA_SENSITIVE)


def says(backend, found, kind: int) -> bool:
    """A flag of an object; one that the token does not have is not set."""
    try:
        return any(backend.attribute(found, kind))
    except VaultError:
        return False


_FLAGS = [
    (CKA_PRIVATE, True),
    (CKA_SENSITIVE, True),
    (CKA_EXTRACTABLE, False),
    (CKA_SIGN, True),
    (CKA_DERIVE, True),
]


def _claimed(backend, row, kind: int) -> bool:
    """Whether a key from outside has the attribute, by itself or when it is claimed."""
    scalar, point = row.trial
    name = [(CKA_ID, backend.random(16))]
    template = (
        name
        + [
            (CKA_CLASS, CKO_PRIVATE_KEY),
            (CKA_KEY_TYPE, CKK_EC),
            (CKA_TOKEN, False),
            (CKA_EC_PARAMS, row.ec_params),
            (CKA_VALUE, bytearray(scalar)),
        ]
        + _FLAGS
    )
    try:
        for more in ([], [(CKA_NSS_DB, point)]):
            for claim in ([], [(kind, True)]):
                try:
                    if says(backend, backend.create(template + more + claim), kind):
                        return True
                except VaultError:
                    pass  # it takes no such key: nobody can bring one
        return False
    finally:
        # SoftHSM leaves half an object of the session where it refuses one.
        for made in backend.find(name):
            backend.destroy(made)
