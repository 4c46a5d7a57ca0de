"""The origin of a key, as far as its token attests it.

CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE say that a key was made in its token and
can never have been outside [PKCS#11 2.40, 4.4]. Which of them a library honours, and which a
writer can claim for a key from outside, only a trial shows: NSS denies CKA_LOCAL of keys that it
made, and grants it to every key whose writer claims it.

The flags lie in a token's files beside the key, where a writer of those files can turn them. So
the car compares them with its own store [`levels.reconcile`].
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
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VALUE,
    CKA_VERIFY,
    CKK_EC,
    CKO_PRIVATE_KEY,
)
from .custody import DIALECTS
from .levels import EXTRACTABLE, IMPORTED, UNATTESTED

_ATTESTING = (CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE)


def attesting(backend, row) -> tuple:
    """The attributes (CKA_*) that prove an origin in the token: true of a key made there, and not
    of one that was written into it with that claim. Leaves no object in the token.

    row: of `schemes.SCHEMES`. Raises VaultError when the token makes no key for the trial.
    """
    common = [(CKA_TOKEN, False)]
    public = common + [(CKA_PRIVATE, False), (CKA_VERIFY, True), (CKA_EC_PARAMS, row.ec_params)]
    pair = backend.generate(public, common + _FLAGS)
    try:
        true = [kind for kind in _ATTESTING if is_set(backend, pair[1], kind)]
    finally:
        for half in pair:
            backend.destroy(half)
    return tuple([kind for kind in true if not _can_be_claimed(backend, row, kind)])


def of_key(backend, private, attesting) -> str:
    """The custody of a private key by its origin: "L3", or a word of `levels` below every level.
    attesting: as the function `attesting` returns it."""
    if can_leave(backend, private):
        return EXTRACTABLE
    if not attesting:
        return UNATTESTED
    denied = [kind for kind in attesting if not is_set(backend, private, kind)]
    if not denied:
        return "L3"
    return EXTRACTABLE if CKA_LOCAL in attesting and CKA_LOCAL not in denied else IMPORTED


def can_leave(backend, private) -> bool:
    """Whether a private key can be read or wrapped out, by its flags."""
    return is_set(backend, private, CKA_EXTRACTABLE) or not is_set(backend, private, CKA_SENSITIVE)


def is_set(backend, handle, kind: int) -> bool:
    """A flag of an object; a flag that the token does not have counts as not set."""
    try:
        return any(backend.attribute(handle, kind))
    except VaultError:
        return False


_FLAGS = [
    (CKA_PRIVATE, True),
    (CKA_SENSITIVE, True),
    (CKA_EXTRACTABLE, False),
    (CKA_SIGN, True),
    (CKA_DERIVE, True),
]


def _can_be_claimed(backend, row, kind: int) -> bool:
    """Whether a key from outside has the attribute, unasked or because its template claims it."""
    scalar, point = row.trial
    key_id = [(CKA_ID, backend.random(16))]
    template = (
        key_id
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
        for dialect in DIALECTS:
            for claim in ([], [(kind, True)]):
                try:
                    written = backend.create(template + dialect.attributes(point) + claim)
                    if is_set(backend, written, kind):
                        return True
                except VaultError:
                    pass  # the token takes no such key from outside
        return False
    finally:
        # SoftHSM leaves half a session object where it refuses one.
        for handle in backend.find(key_id):
            backend.destroy(handle)
