"""A secret in a token from which the secret of every webhook is derived.

A webhook's receiver and every worker use the webhook's secret, but it is stored nowhere: it is
HMAC-SHA256 of the webhook's id under a key that never leaves its token.
"""

from typing import Any, cast

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from evcc.vault import VaultError
from plugvault.cryptoki.token import Token

_BITS = 256


class TokenSecret:
    """A generic secret key in a token, for HMAC-SHA256."""

    def __init__(self, token: Token, key: Any) -> None:
        self._token = token
        self._key = key

    def derive(self, name: str) -> str:
        """The secret of this name: 64 hexadecimal characters, the same at each call. Raises
        VaultError("unavailable")."""
        with self._token.call():
            digest = self._key.sign(name.encode(), mechanism=Mechanism.SHA256_HMAC)
        return cast(bytes, digest).hex()


def generate(token: Token, label: str) -> TokenSecret:
    """Make a secret that never leaves the token. Raises VaultError("full" | "unavailable")."""
    with token.call():
        key = token.session.generate_key(
            KeyType.GENERIC_SECRET,
            _BITS,
            label=label,
            id=label.encode(),
            store=True,
            mechanism=Mechanism.GENERIC_SECRET_KEY_GEN,
            capabilities=MechanismFlag.SIGN,
            template={
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.MODIFIABLE: False,
            },
        )
    return TokenSecret(token, key)


def find(token: Token, label: str) -> TokenSecret:
    """The secret of that label. Raises VaultError("not-found" | "unavailable")."""
    with token.call():
        keys = token.find(label.encode(), ObjectClass.SECRET_KEY)
    if not keys:
        raise VaultError("not-found", label)
    return TokenSecret(token, keys[0])
