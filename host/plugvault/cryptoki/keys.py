"""The common part of every kind of key that a role has in a token."""

from typing import TYPE_CHECKING, Any

from pkcs11 import Attribute

if TYPE_CHECKING:
    from plugvault.cryptoki.token import Token

Attributes = dict[Attribute, Any]


def templates(label: str, usage: tuple[str, ...] = ("sign",)) -> tuple[Attributes, Attributes]:
    """The attributes of a new key pair, public and private half: it never leaves its token.

    usage: of "sign", "derive".
    """
    common = {Attribute.TOKEN: True, Attribute.ID: label.encode(), Attribute.LABEL: label}
    public = {**common, Attribute.VERIFY: True, Attribute.PRIVATE: False}
    private = {
        **common,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.MODIFIABLE: False,
        Attribute.SIGN: "sign" in usage,
        Attribute.DERIVE: "derive" in usage,
    }
    return public, private


def custody(token: "Token", private: Any) -> str:
    """The custody of a role's key: "L3" when the token attests that the key was made in it and can
    never leave; else ""."""
    kinds = (Attribute.LOCAL, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE)
    with token.call():
        return "L3" if all(private[kind] for kind in kinds) else ""
