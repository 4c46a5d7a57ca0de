"""Token providers: a row of `PROVIDERS` for each kind of token, and its name in `ProviderName`.

A row states where the library of that kind is, how an empty token is made, and where the files of
a token are. `selftest` finds out what its tokens can do. Differences in the use of a token are in
a driver [`plugvault.cryptoki.driver`].
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
class TokenProvider:
    """A kind of token. title: its name for users.

    make(folder, label, pin): an empty token in a store of its own at `folder`. A store can hold
    more tokens: call `make` again with the same folder, before one of them is opened. Raises:
    VaultError("module-missing" | "exists" | "pin" | ...).

    files_folder(location, label, serial): the folder of a token's files, None where the token is
    not of this provider.
    """

    name: ProviderName
    title: str
    find_module: Callable[[], Path]
    make: Callable[[Path, str, str], TokenLocation]
    files_folder: Callable[[TokenLocation, str, bytes], Path | None]


def _make_softhsm(folder: Path, label: str, pin: str) -> TokenLocation:
    store = softhsm.TokenStore(folder)
    store.init_token(label, pin, secrets.token_hex(8))
    return TokenLocation(store.module, label, conf=store.conf)


def _make_nss(folder: Path, label: str, pin: str) -> TokenLocation:
    store = nss.NssStore(folder)
    store.init_token(label, pin)
    return TokenLocation(store.module, label, options=store.options)


SOFTHSM = TokenProvider(
    name="softhsm",
    title="SoftHSM",
    find_module=softhsm.find_module,
    make=_make_softhsm,
    files_folder=lambda location, label, serial: softhsm.files_folder(location.conf, serial),
)
NSS = TokenProvider(
    name="nss",
    title="NSS softoken",
    find_module=nss.find_module,
    make=_make_nss,
    files_folder=lambda location, label, serial: nss.files_folder(location.options, label),
)
PROVIDERS: dict[str, TokenProvider] = {provider.name: provider for provider in (SOFTHSM, NSS)}


def files_folder(location: TokenLocation, label: str, serial: bytes) -> Path | None:
    """The folder of a token's files, None for a token of another provider."""
    folders = (provider.files_folder(location, label, serial) for provider in PROVIDERS.values())
    return next((folder for folder in folders if folder), None)
