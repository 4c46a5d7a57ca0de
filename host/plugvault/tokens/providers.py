"""Token providers: how each one's library is found, and a throw-away token of it made.

A new provider is a row of `PROVIDERS`. What its tokens can do is `selftest`'s to say.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plugvault.tokens import nss, softhsm
from plugvault.tokens.location import TokenLocation

ProviderName = Literal["softhsm", "nss"]


@dataclass(frozen=True)
class Provider:
    """make(folder, label, pin): an empty token in a store of its own at `folder`.

    A store can hold more tokens: call `make` again with the same folder, before one of them is
    opened. Raises: VaultError("module-missing" | "exists" | "pin" | ...).
    """

    name: ProviderName
    find_module: Callable[[], Path]
    make: Callable[[Path, str, str], TokenLocation]


def _make_softhsm(folder: Path, label: str, pin: str) -> TokenLocation:
    store = softhsm.TokenStore(folder)
    store.init_token(label, pin, secrets.token_hex(8))
    return TokenLocation(store.module, label, conf=store.conf)


def _make_nss(folder: Path, label: str, pin: str) -> TokenLocation:
    store = nss.NssStore(folder)
    store.init_token(label, pin)
    return TokenLocation(store.module, label, options=store.options)


SOFTHSM = Provider("softhsm", softhsm.find_module, _make_softhsm)
NSS = Provider("nss", nss.find_module, _make_nss)
PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in (SOFTHSM, NSS)}
