"""An RSA key in a token signs access tokens, and does nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import RSAKey
from pkcs11 import Attribute, AttributeSensitive

from evcc.vault import VaultError
from plugvault.cryptoki.rsa import TokenRsaKey, generate
from plugvault.tokens import Hsm


@pytest.fixture
def key(car_token: Any) -> Iterator[TokenRsaKey]:
    with Hsm(car_token.module, car_token.conf) as hsm:
        yield generate(hsm.token(car_token.label, car_token.pin), "signing")


def test_a_jwt_signed_in_the_token_verifies_with_the_public_key(key: TokenRsaKey) -> None:
    public = RSAKey.import_key(key.public_key())
    signed = jwt.encode({"alg": "RS256"}, {"who": "me"}, RSAKey(key, public.as_dict()))
    assert jwt.decode(signed, public, algorithms=["RS256"]).claims == {"who": "me"}


def test_it_was_made_in_the_token_and_cannot_leave(key: TokenRsaKey) -> None:
    assert key.custody() == "L3"
    with pytest.raises(AttributeSensitive):
        key._private[Attribute.PRIVATE_EXPONENT]
    for leave in (key.private_numbers, key.private_bytes):
        with pytest.raises(VaultError, match="refused"):
            leave()


def test_it_signs_one_way_only(key: TokenRsaKey) -> None:
    for wrong in (
        (padding.PKCS1v15(), hashes.SHA1()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    ):
        with pytest.raises(UnsupportedAlgorithm):
            key.sign(b"data", *wrong)
    with pytest.raises(VaultError, match="refused"):
        key.decrypt(bytes(256), padding.PKCS1v15())
