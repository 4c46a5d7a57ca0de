"""Numbers of PKCS#11 2.40 that the vault uses: attributes, classes, mechanisms, return codes."""

CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL, CKA_VALUE = 0x0, 0x1, 0x2, 0x3, 0x11
CKA_KEY_TYPE, CKA_ID, CKA_SENSITIVE = 0x100, 0x102, 0x103
CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP = 0x104, 0x105, 0x106, 0x107
CKA_SIGN, CKA_SIGN_RECOVER, CKA_VERIFY, CKA_DERIVE = 0x108, 0x109, 0x10A, 0x10C
CKA_VALUE_LEN, CKA_EXTRACTABLE, CKA_MODIFIABLE = 0x161, 0x162, 0x170
CKA_LOCAL, CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE = 0x163, 0x164, 0x165
CKA_EC_PARAMS, CKA_EC_POINT = 0x180, 0x181
CKA_NSS_DB = 0xD5A0DB00  # NSS: the public point of a private key, which it files the key by
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


def in_two_steps(template, more=()) -> tuple:
    """The templates of an object of the session, and of its copy that stays in the token.

    more: what the copy is told again.
    """
    late = [one for one in template if one[0] in (CKA_TOKEN, CKA_MODIFIABLE) + more]
    return [one for one in template if one not in late] + [(CKA_TOKEN, False)], late
