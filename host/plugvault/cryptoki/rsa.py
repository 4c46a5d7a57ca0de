"""RSA keys in a token, for OAuth2 access tokens, which are signed with RS256.

Plug & Charge itself uses elliptic curves; see `ec_keys`.
"""

from typing import Any, NoReturn, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag

from evcc.vault import VaultError
from plugvault.cryptoki.keys import custody, templates
from plugvault.cryptoki.token import Token

BITS = 2048


def generate(token: Token, label: str) -> "TokenRsaKey":
    """Make an RSA key pair that never leaves the token and can only sign.

    Raises: VaultError("full" | "unavailable").
    """
    public, private = templates(label)
    with token.call():
        token.session.generate_keypair(
            KeyType.RSA,
            BITS,
            store=True,
            capabilities=MechanismFlag(0),
            public_template=public,
            private_template=private,
        )
    return key(token, label)


def key(token: Token, label: str) -> "TokenRsaKey":
    """The key of that label. Raises: VaultError("not-found" | "unavailable")."""
    with token.call():
        private, public = token.pair(label)
        numbers = rsa.RSAPublicNumbers(
            int.from_bytes(public[Attribute.PUBLIC_EXPONENT], "big"),
            int.from_bytes(public[Attribute.MODULUS], "big"),
        )
    return TokenRsaKey(token, label, private, numbers.public_key())


class TokenRsaKey(rsa.RSAPrivateKey):
    """An RSA private key in a token. It signs PKCS#1 v1.5 with SHA-256, and cannot be exported."""

    def __init__(self, token: Token, label: str, private: Any, public: rsa.RSAPublicKey) -> None:
        self.label = label
        self._token = token
        self._private = private
        self._public = public

    def custody(self) -> str:
        """The custody of the key: see `keys.custody`."""
        return custody(self._token, self._private)

    def sign(self, data: Any, padding_: Any, algorithm: Any) -> bytes:
        if not isinstance(padding_, padding.PKCS1v15) or not isinstance(algorithm, hashes.SHA256):
            raise UnsupportedAlgorithm("these keys sign PKCS#1 v1.5 with SHA-256")
        with self._token.call():
            signature = self._private.sign(bytes(data), mechanism=Mechanism.SHA256_RSA_PKCS)
        return cast(bytes, signature)

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def __copy__(self) -> "TokenRsaKey":
        return self

    def __deepcopy__(self, memo: object) -> "TokenRsaKey":
        return self

    def decrypt(self, *_: Any) -> NoReturn:
        raise VaultError("refused", "this key only signs")

    def private_numbers(self) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def __repr__(self) -> str:
        return f"TokenRsaKey({self._token.label!r}, {self.label!r})"
