"""EC keys in a token, as keys of `cryptography`: for certificate and CSR builders."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from pkcs11 import Mechanism
from pkcs11.util.ec import encode_named_curve_parameters

from evcc.vault import VaultError
from plugvault.cryptoki import keys

if TYPE_CHECKING:
    from plugvault.cryptoki.token import Token


@dataclass(frozen=True)
class Curve:
    """A curve of role keys. parameters: CKA_EC_PARAMS, DER; hash: the only hash that its keys sign
    with."""

    parameters: bytes
    curve: ec.EllipticCurve
    hash: hashes.HashAlgorithm

    @property
    def size(self) -> int:
        """The bytes of a coordinate."""
        return (self.curve.key_size + 7) // 8


CURVES = {
    "secp256r1": Curve(
        encode_named_curve_parameters("1.2.840.10045.3.1.7"), ec.SECP256R1(), hashes.SHA256()
    ),
    "secp521r1": Curve(
        encode_named_curve_parameters("1.3.132.0.35"), ec.SECP521R1(), hashes.SHA512()
    ),
}
CURVES_BY_PARAMETERS = {curve.parameters: curve for curve in CURVES.values()}


class TokenKey(ec.EllipticCurvePrivateKey):
    """An EC private key in a token. Cannot be exported.

    `point`: the public key, 0x04 | X | Y: 65 bytes on P-256, 133 on P-521.
    """

    def __init__(
        self, token: "Token", label: str, private: Any, point: bytes, curve: Curve
    ) -> None:
        self.label = label
        self.point = point
        self._token = token
        self._private = private
        self._curve = curve
        self._public = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, point)

    @property
    def token(self) -> "Token":
        """The token with this key."""
        return self._token

    def custody(self) -> str:
        """The custody of the key: see `keys.custody`."""
        return keys.custody(self._token, self._private)

    def sign_digest(self, digest: bytes) -> bytes:
        """ECDSA over a finished digest of 32 bytes (64 on P-521): r | s, 64 bytes (132).

        Raises: VaultError("digest-length" | "refused" | "unavailable").
        """
        if len(digest) != self._curve.hash.digest_size:  # SoftHSM signs any length
            raise VaultError("digest-length", str(len(digest)))
        with self._token.call():
            if not hasattr(self._private, "sign"):
                raise VaultError("refused", f"{self.label} is not for signing")
            return bytes(self._private.sign(digest, mechanism=Mechanism.ECDSA))

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """A signature in DER. Only ECDSA with the curve's hash is supported, over the data or
        `Prehashed`.

        Raises: UnsupportedAlgorithm; VaultError as `sign_digest`.
        """
        algorithm, curve_hash = signature_algorithm.algorithm, self._curve.hash
        digest = bytes(data)
        if isinstance(algorithm, type(curve_hash)):
            digest = hashlib.new(curve_hash.name, digest).digest()
        elif not (
            isinstance(algorithm, Prehashed) and algorithm.digest_size == curve_hash.digest_size
        ):
            raise UnsupportedAlgorithm(f"this key signs ECDSA with {curve_hash.name}")
        signature, half = self.sign_digest(digest), self._curve.size
        return encode_dss_signature(
            int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        )

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def __copy__(self) -> "TokenKey":
        return self

    def __deepcopy__(self, memo: object) -> "TokenKey":
        return self

    def exchange(self, *_: Any) -> NoReturn:
        raise VaultError("refused", "no raw ECDH")

    def private_numbers(self) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def __repr__(self) -> str:
        return f"TokenKey({self._token.label!r}, {self.label!r})"
