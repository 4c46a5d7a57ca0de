"""Tokens: their providers, the choice of one, and operations on them.

`providers` has a row for each kind of token, with `softhsm` and `nss`; `selection` reads which
token is configured, `pin` its PIN, `location` is where it is. `selftest` reports the custody that
a token gives, `probes` looks into one, `subprocess_probe` does so in a process of its own, `lease`
gives a token to one process at a time. Every failure is `evcc.vault.VaultError`.
"""

from evcc.vault import VaultError
from plugvault.cryptoki.ec_keys import TokenKey
from plugvault.cryptoki.hsm import Hsm
from plugvault.cryptoki.token import Token
from plugvault.tokens.softhsm import TokenStore, find_module

__all__ = ["Hsm", "Token", "TokenKey", "TokenStore", "VaultError", "find_module"]
