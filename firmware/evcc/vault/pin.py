"""What a token says of its user PIN [PKCS#11 2.40, CK_TOKEN_INFO.flags]. It gives no number."""

_FLAGS = (
    (0x40000, "locked, the security officer must set a new one"),
    (0x20000, "one try left: the next wrong PIN locks the token"),
    (0x10000, "wrong at least once since it was last right"),
)


def tries_left(flags: int) -> str:
    """For a person; "" where the token does not tell."""
    for flag, words in _FLAGS:
        if flags & flag:
            return words
    return ""
