"""PKCS#11 2.40 as the vault uses it: numbers, return codes, and the templates of its objects.

A template is a list or a tuple of (attribute, value). It names every use of a key: a flag that no
template forbids, a token may allow.
"""

CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL, CKA_VALUE = 0x0, 0x1, 0x2, 0x3, 0x11
CKA_KEY_TYPE, CKA_ID, CKA_SENSITIVE = 0x100, 0x102, 0x103
CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP = 0x104, 0x105, 0x106, 0x107
CKA_SIGN, CKA_SIGN_RECOVER, CKA_VERIFY, CKA_DERIVE = 0x108, 0x109, 0x10A, 0x10C
CKA_VALUE_LEN, CKA_EXTRACTABLE, CKA_MODIFIABLE = 0x161, 0x162, 0x170
CKA_LOCAL, CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE = 0x163, 0x164, 0x165
CKA_EC_PARAMS, CKA_EC_POINT = 0x180, 0x181
CKA_NSS_DB = 0xD5A0DB00  # NSS: the public point of a private key, under which NSS stores the key
CKO_PUBLIC_KEY, CKO_PRIVATE_KEY, CKO_SECRET_KEY = 2, 3, 4
CKK_EC, CKK_GENERIC_SECRET, CKK_AES = 0x3, 0x10, 0x1F
CKM_CONCATENATE_BASE_AND_DATA, CKM_CONCATENATE_DATA_AND_BASE = 0x362, 0x363
CKM_ECDH1_DERIVE, CKM_AES_CBC, CKM_AES_CBC_PAD = 0x1050, 0x1082, 0x1085

# The reason of the VaultError for a return code (CKR_*); "unavailable" for every other code.
REASONS = {
    0x02: "full",  # HOST_MEMORY
    0x06: "refused",  # FUNCTION_FAILED
    0x31: "full",  # DEVICE_MEMORY
    0x32: "token-missing",  # DEVICE_REMOVED
    0xA0: "pin",  # PIN_INCORRECT
    0xA1: "pin",  # PIN_INVALID
    0xA2: "pin",  # PIN_LEN_RANGE
    0xA3: "pin-locked",  # PIN_EXPIRED
    0xA4: "pin-locked",  # PIN_LOCKED
    0xE0: "token-missing",  # TOKEN_NOT_PRESENT
    0xE1: "token-missing",  # TOKEN_NOT_RECOGNIZED
    0xE2: "full",  # TOKEN_WRITE_PROTECTED
    0x102: "pin",  # USER_PIN_NOT_INITIALIZED
    0x110: "refused",  # WRAPPED_KEY_INVALID
}

# A user PIN in the flags of CK_TOKEN_INFO. A token does not tell the number of tries left.
_PIN_FLAGS = (
    (0x40000, "locked, the security officer must set a new one"),
    (0x20000, "one try left: the next wrong PIN locks the token"),
    (0x10000, "wrong at least once since it was last right"),
)

USES = (CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_VERIFY, CKA_DERIVE)


def private_flags(derive: bool) -> list:
    """The flags of a private key that signs, derives if `derive`, and can never get more uses."""
    return [
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, False),
        (CKA_MODIFIABLE, False),
        (CKA_SIGN, True),
        (CKA_DERIVE, derive),
        (CKA_DECRYPT, False),
        (CKA_UNWRAP, False),
        (CKA_SIGN_RECOVER, False),
    ]


def imported_pair(scheme, key_id: bytes, label: bytes, point: bytes) -> tuple:
    """(public, private) templates for a key pair from outside, without the private key's value.
    The key has the uses of a provisioning key, and no others. scheme: of `schemes.SCHEMES`."""
    common = [
        (CKA_TOKEN, True),
        (CKA_KEY_TYPE, CKK_EC),
        (CKA_EC_PARAMS, scheme.ec_params),
        (CKA_ID, key_id),
        (CKA_LABEL, label),
    ]
    public = common + [(CKA_CLASS, CKO_PUBLIC_KEY), (CKA_EC_POINT, octet_string(point))]
    public += [(CKA_PRIVATE, False), (CKA_VERIFY, True)]
    return public, common + [(CKA_CLASS, CKO_PRIVATE_KEY)] + private_flags(derive=True)


def session_public_key(scheme, point: bytes) -> list:
    """The template of a public key of the session, to verify with."""
    return [
        (CKA_CLASS, CKO_PUBLIC_KEY),
        (CKA_KEY_TYPE, CKK_EC),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, False),
        (CKA_VERIFY, True),
        (CKA_EC_PARAMS, scheme.ec_params),
        (CKA_EC_POINT, octet_string(point)),
    ]


def secret_template(
    size, kind=CKK_GENERIC_SECRET, uses=(CKA_DERIVE,), sensitive=True, extractable=False
) -> tuple:
    """The template of a secret of the session, of `size` bytes. kind: CKK_*. uses: of `USES`."""
    return (
        (CKA_VALUE_LEN, size),
        (CKA_CLASS, CKO_SECRET_KEY),
        (CKA_KEY_TYPE, kind),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, sensitive),
        (CKA_EXTRACTABLE, extractable),
    ) + tuple([(use, use in uses) for use in USES])


def in_two_steps(template, repeated=()) -> tuple:
    """The templates of a session object, and of its copy that stays in the token.

    repeated: attributes that the copy gets, and the session object does not.
    """
    later = [item for item in template if item[0] in (CKA_TOKEN, CKA_MODIFIABLE) + repeated]
    return [item for item in template if item not in later] + [(CKA_TOKEN, False)], later


def octet_string(point: bytes) -> bytes:
    """CKA_EC_POINT as PKCS#11 2.40 has it: the point in a DER octet string."""
    length = len(point)
    return (b"\x04" if length < 128 else b"\x04\x81") + bytes((length,)) + bytes(point)


def tries_left(flags: int) -> str:
    """The warning about the user PIN in the flags of CK_TOKEN_INFO, as text; "" for none."""
    for flag, words in _PIN_FLAGS:
        if flags & flag:
            return words
    return ""
