"""A user's own intermediate values compared with the correct ones: the first that differs, and
why."""

from collections.abc import Callable, Iterator

from plugvault.cases.derivations import WRONG
from plugvault.explanation.key_transport import KeyAgreement, decrypted, key_of, z_of
from plugvault.explanation.steps import ExplainError, Message, Step

NAMES = ("z", "k", "iv", "scalar")
Forms = Iterator[tuple[str, bytes]]


def parse_theirs(words: list[str]) -> dict[str, bytes]:
    """{"z": bytes, …} of `z=HEX` words. Raises ExplainError("theirs")."""
    theirs = {}
    for word in words:
        name, equals, digits = word.partition("=")
        if not equals or name not in NAMES:
            raise ExplainError("theirs", f"{word!r} is not one of {'=HEX, '.join(NAMES)}=HEX")
        try:
            theirs[name] = bytes.fromhex(digits)
        except ValueError as error:
            raise ExplainError("theirs", f"{name} is not hexadecimal") from error
        if not theirs[name]:
            raise ExplainError("theirs", f"{name} has no value: {name}=HEX")
    return theirs


def first_deviation(message: Message, key: KeyAgreement, theirs: dict[str, bytes]) -> Step:
    """The first value of `theirs` that is not the correct one, with the mistake that gives it.

    message: with a well-formed DH point and ciphertext.
    """
    point = message["body"]["DHpublickey"]["value"]
    wrapped = message["body"]["ContractSignatureEncryptedPrivateKey"]["value"]
    z = z_of(point, key)
    right = {
        "z": z,
        "k": key_of(z),
        "iv": wrapped[:16],
        "scalar": decrypted(key_of(z), wrapped[:16], wrapped[16:]),
    }
    forms: dict[str, Callable[[], Forms]] = {
        "z": lambda: _of_z(z),
        "k": lambda: _of_k(z),
        "iv": lambda: _of_iv(wrapped),
        "scalar": lambda: _of_scalar(z, wrapped, right["scalar"]),
    }
    for name in NAMES:
        if name in theirs and theirs[name] != right[name]:
            for mistake, value in forms[name]():
                if value == theirs[name]:
                    return Step(name, theirs[name], False, mistake, secret=True)
            return Step(name, theirs[name], False, "no mistake that is known here", secret=True)
    return Step("theirs", ", ".join(theirs), True, "all values are right")


def _of_z(z: bytes) -> Forms:
    yield "its leading zeros are stripped", z.lstrip(b"\0")
    yield "a zero byte is in front: a signed integer", b"\0" + z
    yield "its bytes are reversed", z[::-1]


def _of_k(z: bytes) -> Forms:
    for mistake, derive in WRONG:
        yield mistake, derive(z)
    if z[0] == 0:
        yield "Z's leading zeros are stripped", key_of(z.lstrip(b"\0"))
    yield "Z's bytes are reversed", key_of(z[::-1])


def _of_iv(wrapped: bytes) -> Forms:
    yield "an IV of zeros", bytes(16)
    yield "the IV is taken from the end", wrapped[-16:]


def _of_scalar(z: bytes, wrapped: bytes, scalar: bytes) -> Forms:
    key = key_of(z)
    yield "its bytes are reversed", scalar[::-1]
    yield "its leading zeros are stripped", scalar.lstrip(b"\0")
    yield "a zero byte is in front: a signed integer", b"\0" + scalar
    yield "PKCS#7 padding is taken off that is not there", scalar[: -scalar[-1] or None]
    yield "an IV of zeros", decrypted(key, bytes(16), wrapped[16:])
    yield "the IV is taken from the end", decrypted(key, wrapped[-16:], wrapped[:-16])
    yield "the IV is decrypted too", decrypted(key, bytes(16), wrapped)[16:]
    for mistake, derive in WRONG:
        yield mistake, decrypted(derive(z), wrapped[:16], wrapped[16:])
