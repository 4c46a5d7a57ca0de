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


def attesting(calls, row) -> tuple:
    """Which attributes prove a key's origin in the token of `calls`: true of a key made there, and
    not of one that was written into it, even where its writer says so. Leaves nothing in it.

    row: of `schemes.SCHEMES`. Raises VaultError when the token makes no key for the trial.
    """
    common = [(CKA_TOKEN, False)]
    public = common + [(CKA_PRIVATE, False), (CKA_VERIFY, True), (CKA_EC_PARAMS, row.ec_params)]
    pair = calls.generate(public, common + _FLAGS)
    try:
        made = [kind for kind in _ATTESTING if says(calls, pair[1], kind)]
    finally:
        for half in pair:
            calls.destroy(half)
    return tuple([kind for kind in made if not _claimed(calls, row, kind)])


def of_key(calls, private, attesting) -> str:
    """ "L3", or one of this file's words, for a private key object. attesting: as above."""
    if can_leave(calls, private):
        return EXTRACTABLE
    if not attesting:
        return UNATTESTED
    denied = [kind for kind in attesting if not says(calls, private, kind)]
    if not denied:
        return "L3"
    return EXTRACTABLE if CKA_LOCAL in attesting and CKA_LOCAL not in denied else IMPORTED


def can_leave(calls, private) -> bool:
    """Whether a private key object can be read or wrapped out, as its token says."""
    return says(calls, private, CKA_EXTRACTABLE) or not says(calls, private, CKA_SENSITIVE)


def says(calls, found, kind: int) -> bool:
    """A flag of an object; one that the token does not have is not set."""
    try:
        return any(calls.attribute(found, kind))
    except VaultError:
        return False


_FLAGS = [
    (CKA_PRIVATE, True),
    (CKA_SENSITIVE, True),
    (CKA_EXTRACTABLE, False),
    (CKA_SIGN, True),
    (CKA_DERIVE, True),
]


def _claimed(calls, row, kind: int) -> bool:
    """Whether a key from outside has the attribute, by itself or when it is claimed."""
    scalar, point = row.trial
    name = [(CKA_ID, calls.random(16))]
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
                    if says(calls, calls.create(template + more + claim), kind):
                        return True
                except VaultError:
                    pass  # it takes no such key: nobody can bring one
        return False
    finally:
        # SoftHSM leaves half an object of the session where it refuses one.
        for made in calls.find(name):
            calls.destroy(made)
