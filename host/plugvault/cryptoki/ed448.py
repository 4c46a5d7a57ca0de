"""Ed448 keys in a token, for the roots and CAs of ISO 15118-20 [RFC 8032, PKCS#11 3.0].

The other curves of Plug & Charge are in `ec_keys`. `cryptography`'s builders sign with these keys
as with any other. SoftHSM has Ed448 from 2.6 on; a token without it fails at `generate`.
"""

from typing import Any, NoReturn, cast

from cryptography.hazmat.primitives.asymmetric import ed448
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag

from evcc.vault import VaultError
from plugvault.cryptoki.keys import custody, templates
from plugvault.cryptoki.token import Token

_OID = bytes.fromhex("06032b6571")
_SIZE = 57  # bytes of a public key


def generate(token: Token, label: str) -> "TokenEd448Key":
    """Make a key pair that never leaves the token and can only sign.

    Raises: VaultError("full" | "unavailable").
    """
    public, private = templates(label)
    with token.call():
        parameters = token.session.create_domain_parameters(
            KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: _OID}, local=True
        )
        parameters.generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            capabilities=MechanismFlag(0),
            store=True,
            public_template=public,
            private_template=private,
        )
    return key(token, label)


def key(token: Token, label: str) -> "TokenEd448Key":
    """The key of that label. Raises: VaultError("not-found" | "unavailable")."""
    with token.call():
        private, public = token.pair(label)
        point = public[Attribute.EC_POINT][-_SIZE:]
    return TokenEd448Key(token, label, private, point)


class TokenEd448Key(ed448.Ed448PrivateKey):
    """An Ed448 private key in a token. It signs and cannot be exported."""

    def __init__(self, token: Token, label: str, private: Any, point: bytes) -> None:
        self.label = label
        self._token = token
        self._private = private
        self._public = ed448.Ed448PublicKey.from_public_bytes(point)

    def custody(self) -> str:
        """The custody of the key: see `keys.custody`."""
        return custody(self._token, self._private)

    def sign(self, data: Any) -> bytes:
        """A signature of 114 bytes [RFC 8032, 5.2.6]. Raises: VaultError."""
        with self._token.call():
            return cast(bytes, self._private.sign(bytes(data), mechanism=Mechanism.EDDSA))

    def public_key(self) -> ed448.Ed448PublicKey:
        return self._public

    def __copy__(self) -> "TokenEd448Key":
        return self

    def __deepcopy__(self, memo: object) -> "TokenEd448Key":
        return self

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def private_bytes_raw(self) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def __repr__(self) -> str:
        return f"TokenEd448Key({self._token.label!r}, {self.label!r})"
