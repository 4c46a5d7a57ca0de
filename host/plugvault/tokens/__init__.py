"""Keys of the host's roles, kept in PKCS#11 tokens, and the vault service.

`softhsm` finds the SoftHSM library and makes token stores; `token` opens tokens and signs with
their keys (`Hsm`, `Token`, `TokenKey`); `vault` is the module's vault on such a token; `service`
serves that vault from a supervised process of its own (`serving`, `answers`). Every failure is
`evcc.vault.VaultError`.
"""

from evcc.vault import VaultError
from plugvault.cryptoki.token import Hsm, Token, TokenKey
from plugvault.tokens.softhsm import TokenStore, find_module

__all__ = ["Hsm", "Token", "TokenKey", "TokenStore", "VaultError", "find_module"]
