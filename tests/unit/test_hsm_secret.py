"""The secret in a token from which webhooks' secrets are derived."""

from __future__ import annotations

import re

import pkcs11
import pytest
from pkcs11 import Attribute

from evcc.vault import VaultError
from plugvault.cryptoki import secret
from plugvault.tokens import Token


def test_derived_secrets_differ_by_name_and_stay_the_same(makers: Token):
    webhook_secret = secret.generate(makers, "webhooks")
    first = webhook_secret.derive("endpoint 1")
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert first != webhook_secret.derive("endpoint 2")
    assert first == secret.find(makers, "webhooks").derive("endpoint 1")


def test_another_key_gives_other_secrets(makers: Token):
    first, second = (secret.generate(makers, label) for label in ("one", "other"))
    assert first.derive("endpoint") != second.derive("endpoint")


def test_secret_never_leaves_its_token(makers: Token):
    webhook_secret = secret.generate(makers, "webhooks")
    assert webhook_secret._key[Attribute.SENSITIVE]
    assert not webhook_secret._key[Attribute.EXTRACTABLE]
    assert webhook_secret._key[Attribute.NEVER_EXTRACTABLE]
    with pytest.raises(pkcs11.AttributeSensitive):
        webhook_secret._key[Attribute.VALUE]


def test_secret_that_is_not_there_is_not_found(makers: Token):
    with pytest.raises(VaultError) as missing:
        secret.find(makers, "webhooks")
    assert missing.value.reason == "not-found"
