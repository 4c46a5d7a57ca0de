"""Token providers: how each one's library is found, and a throw-away token of it made.

A new provider is a row of `PROVIDERS`. What its tokens can do is `selftest`'s to say.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evcc.vault.pkcs11 import TokenVault
from plugvault.cryptoki.backend import open_vault
from plugvault.tokens import nss, softhsm


@dataclass(frozen=True)
class Place:
    """Where a token is. label: or a URI that names it [`evcc.vault.uri.Name`]; conf: the file for
    SOFTHSM2_CONF, of SoftHSM only; options: what C_Initialize is given, "" for nothing."""

    module: Path
    label: str
    conf: Path | None = None
    options: str = ""

    def env(self) -> dict[str, str]:
        """What to add to the environment of a process that opens this token."""
        return {"SOFTHSM2_CONF": str(self.conf)} if self.conf else {}

    def open(self, pin: str, minimum_custody: str = "", provisioning: str = "") -> TokenVault:
        """Its vault, in this process. Raises as `open_vault` does."""
        more = self.options, minimum_custody, provisioning
        return open_vault(self.module, self.conf, self.label, pin, *more)


@dataclass(frozen=True)
class Provider:
    """make(folder, label, pin): an empty token in a store of its own at `folder`.

    A store can hold more: call it again with the same folder, before any of them is opened.
    """

    name: str
    find_module: Callable[[], Path]
    make: Callable[[Path, str, str], Place]


def _make_softhsm(folder: Path, label: str, pin: str) -> Place:
    store = softhsm.TokenStore(folder)
    store.init_token(label, pin, secrets.token_hex(8))
    return Place(store.module, label, conf=store.conf)


def _make_nss(folder: Path, label: str, pin: str) -> Place:
    store = nss.NssStore(folder)
    store.init_token(label, pin)
    return Place(store.module, label, options=store.options)


SOFTHSM = Provider("softhsm", softhsm.find_module, _make_softhsm)
NSS = Provider("nss", nss.find_module, _make_nss)
PROVIDERS = {provider.name: provider for provider in (SOFTHSM, NSS)}


def make(provider: Provider, folder: Path | str, label: str, pin: str) -> Place:
    """A throw-away token. Raises: VaultError("module-missing" | "exists" | "pin" | ...)."""
    return provider.make(Path(folder), label, pin)
