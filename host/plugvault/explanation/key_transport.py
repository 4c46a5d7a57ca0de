"""The computation of the contract key from its envelope, step by step, with the vehicle's test
key.

ISO 15118-2:2014 [V2G2-814..823].
"""

import hashlib
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evcc import p256_curve, x509
from plugvault.cases.derivations import OTHER_INFO
from plugvault.explanation.steps import Message, Step

COUNTER = b"\0\0\0\1"
_CURVE = ec.SECP256R1()


class KeyAgreement(Protocol):
    """A provisioning key that may be used for an explanation: from a file, or in a token."""

    def exchange(self, algorithm: ec.ECDH, peer: ec.EllipticCurvePublicKey, /) -> bytes:
        """The shared secret Z, 32 bytes."""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""


def explain_envelope(message: Message, key: KeyAgreement | None) -> list[Step]:
    """The steps from DHpublickey to d*G. key: the provisioning key; None: the public steps alone.

    When a step fails, it is the last one.
    """
    body = message["body"]
    point = body["DHpublickey"]["value"]
    wrapped = body["ContractSignatureEncryptedPrivateKey"]["value"]
    good = len(point) == 65 and p256_curve.on_curve(point)
    steps = [Step("DHpublickey", point, good, "" if good else point_fault(point))]
    right_length = len(wrapped) == 48
    steps.append(
        Step(
            "ContractSignatureEncryptedPrivateKey",
            wrapped,
            right_length,
            "" if right_length else f"{len(wrapped)} bytes; IV and two blocks are 48",
        )
    )
    if key is None or not (good and right_length):
        return steps
    if point == _encoded(key.public_key()):
        note = "the vehicle's own provisioning key: Z would be known to all"
        steps[0] = Step("DHpublickey", point, False, note)
    return [*steps, *_opened(point, wrapped, key), *_compared(message, point, wrapped, key)]


def z_of(point: bytes, key: KeyAgreement) -> bytes:
    """The shared secret Z: the X coordinate of the shared point, 32 bytes."""
    return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point))


def key_of(z: bytes) -> bytes:
    """The AES key of Z, 16 bytes [V2G2-818]."""
    return hashlib.sha256(COUNTER + z + OTHER_INFO).digest()[:16]


def decrypted(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """The plaintext of AES-128-CBC without padding. iv: 16 bytes."""
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def _opened(point: bytes, wrapped: bytes, key: KeyAgreement) -> list[Step]:
    z = z_of(point, key)
    return [
        Step("Z, the x-coordinate of the shared point", z, note=_zeros(z), secret=True),
        Step("input of the key derivation: 00000001 | Z | 01 55 56", COUNTER + z + OTHER_INFO,
             secret=True),
        Step("SHA-256 of it", hashlib.sha256(COUNTER + z + OTHER_INFO).digest(), secret=True),
        Step("K, its first 16 bytes", key_of(z), secret=True),
        Step("IV", wrapped[:16]),
        Step("ciphertext", wrapped[16:]),
    ]  # fmt: skip


def _compared(message: Message, point: bytes, wrapped: bytes, key: KeyAgreement) -> list[Step]:
    scalar = decrypted(key_of(z_of(point, key)), wrapped[:16], wrapped[16:])
    number = int.from_bytes(scalar, "big")
    in_range = 0 < number < p256_curve.N
    steps = [
        Step("d, the scalar", scalar, in_range, _range(number) or _traps(scalar), secret=True)
    ]
    if not in_range:
        return steps
    public = _public(number)
    return [*steps, Step("d*G", public), _certified(message, public)]


def _certified(message: Message, public: bytes) -> Step:
    """The certificate's key compared with that of the envelope."""
    name = "the contract certificate's key"
    certificate = message["body"]["ContractSignatureCertChain"]["Certificate"]
    try:
        certified = x509.parse(certificate).point
    except x509.CertificateError as error:
        return Step(name, certificate, False, f"the certificate cannot be read: {error}")
    same = public == certified
    note = "" if same else "the envelope is of another contract or vehicle, or was changed"
    return Step(name, certified, same, note)


def _public(scalar: int) -> bytes:
    return _encoded(ec.derive_private_key(scalar, _CURVE).public_key())


def _encoded(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as 65 bytes, 0x04 | X | Y."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def point_fault(point: bytes) -> str:
    """The fault of bytes that are no uncompressed point of the curve, in words."""
    if len(point) == 33 and point[0] in (2, 3):
        return "compressed; the standard wants 04 | X | Y"
    if len(point) == 67 and point[:2] == b"\x04\x41":
        return "wrapped in a DER octet string"
    if len(point) != 65:
        return f"{len(point)} bytes; 04 | X | Y has 65"
    return "not on the curve" if point[0] == 4 else f"begins with {point[0]:02x}, not with 04"


def _range(number: int) -> str:
    if number == 0:
        return "d is 0"
    return "" if number < p256_curve.N else "d is not below n"


def _traps(scalar: bytes) -> str:
    """The property of a correct scalar by which stacks in the field fail."""
    if scalar[0] & 0x80:
        return "its top bit is set: as a signed number it would be negative"
    return _zeros(scalar)


def _zeros(value: bytes) -> str:
    count = len(value) - len(value.lstrip(b"\0"))
    return f"{count} leading zero bytes, which stay" if count else ""
