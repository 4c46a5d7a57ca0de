"""The key agreement of a provisioning key in a token, for an explanation of its envelope.

A vault gives out no ECDH secret. Here the token derives one that may leave it: for test vehicles,
and for a user with the PIN. A token that lets no derived secret leave refuses.
"""

from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evcc.vault import PROVISIONING, VaultError, uri
from evcc.vault import cryptoki as p11
from evcc.vault.cryptoki import secret_template
from evcc.vault.pkcs11 import TokenVault, with_adopted_key
from plugvault.tokens.selection import TokenConfiguration

_SIZE = 32  # bytes of a coordinate on P-256
_OF_A_KEY = ("object", "id", "type")


class TokenAgreement:
    """The provisioning key of a vault, with the two methods that a key agreement needs."""

    def __init__(self, vault: TokenVault) -> None:
        self._vault = vault

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half. Raises VaultError("not-found")."""
        point = self._vault.public(PROVISIONING)
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)

    def exchange(self, algorithm: ec.ECDH, peer: ec.EllipticCurvePublicKey, /) -> bytes:
        """The shared secret Z, 32 bytes. Raises VaultError("custody") when the token does not let
        it leave."""
        point = peer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        backend = self._vault._backend
        private = self._vault._pair(PROVISIONING)[0]
        template = cast(Any, secret_template)(_SIZE, sensitive=False, extractable=True)
        try:
            secret = backend.derive(p11.CKM_ECDH1_DERIVE, private, point, template)
        except VaultError as error:
            raise VaultError("custody", f"{_KEPT} ({error})") from error
        try:
            return bytes(backend.attribute(secret, p11.CKA_VALUE))
        except VaultError as error:
            raise VaultError("custody", f"{_KEPT} ({error})") from error
        finally:
            backend.destroy(secret)


_KEPT = "this token keeps Z to itself: explain with --test-key and a vehicle made for tests"


def split(text: str) -> tuple[str, str]:
    """(name of the token, name of its key) of one URI [RFC 7512]; the second is "" where it names
    no key.

    Raises VaultError("refused").
    """
    if not uri.is_uri(text):
        return text, ""
    uri.parse(text)
    path, mark, query = text[len(uri.SCHEME) :].partition("?")
    parts = path.split(";")
    of_key = [part for part in parts if part.partition("=")[0] in _OF_A_KEY]
    of_token = [part for part in parts if part not in of_key]
    key = uri.SCHEME + ";".join(of_key) if of_key else ""
    return uri.SCHEME + ";".join(of_token) + mark + query, key


def open_agreement(token: TokenConfiguration, key: str) -> tuple[TokenVault, TokenAgreement]:
    """The vault, which the caller closes, and the agreement of its key. key: a URI, or "" for the
    vehicle's own provisioning key. Raises VaultError as `open_vault`, "not-found"."""
    vault = token.open()
    try:
        agreement = TokenAgreement(with_adopted_key(vault, key) if key else vault)
        agreement.public_key()
    except VaultError:
        vault.close()
        raise
    return vault, agreement
