"""Tokens for one test: made for it, or somebody's own, lent to it and given back as it was."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from evcc.vault import VaultError
from evcc.vault.pkcs11 import TokenVault
from evcc.vault.service import ServiceVault
from plugvault.cryptoki.hsm import close_library
from plugvault.tokens.lease import exclusive_lease
from plugvault.tokens.providers import PROVIDERS, Provider
from plugvault.tokens.selection import Selection, TokenConfiguration
from plugvault.vault_service.service import VaultService

LABEL = "test"
_RATE = 1e6  # operations a second: tests may do what no car would


class ThrowAway:
    """An empty token with a PIN of its own.

    module, label, conf, options: see `plugvault.tokens.location.TokenLocation`. folder: the
    token's own; files and sockets of the test may be put there.
    """

    def __init__(self, provider: Provider, folder: Path, label: str = LABEL) -> None:
        self.folder = folder
        self.provider = provider
        self.pin = secrets.token_hex(8)
        self.location = provider.make(folder / "hsm", label, self.pin)
        self.label = self.location.label
        self.module, self.conf = self.location.module, self.location.conf
        self.options = self.location.options

    def env(self) -> dict[str, str]:
        """What a process that opens it needs in its environment."""
        return self.location.env()

    def open(self, minimum_custody: str = "") -> TokenVault:
        """Its vault, in this process, which has one store of SoftHSM open at a time."""
        return self.location.open(self.pin, minimum_custody)

    def service(self, minimum_custody: str = "", rate: float = _RATE) -> VaultService:
        """Its vault in a process of its own, not yet started."""
        return _service(
            TokenConfiguration(self.location, self.pin, minimum_custody), self.folder, rate
        )


def module_of(provider: Provider) -> Path:
    """Its library; without it the test is skipped, under CI it fails."""
    try:
        return provider.find_module()
    except VaultError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@contextlib.contextmanager
def throw_away(provider: str, label: str = LABEL) -> Iterator[ThrowAway]:
    kind = PROVIDERS[provider]
    module_of(kind)
    with short_folder() as folder:
        token = ThrowAway(kind, folder, label)
        with pytest.MonkeyPatch.context() as environment, forgotten(token.module):
            for name, value in token.env().items():
                environment.setenv(name, value)
            yield token


@contextlib.contextmanager
def vault(selection: Selection) -> Iterator[ServiceVault]:
    """See the fixture of this name."""
    with contextlib.ExitStack() as stack:
        chosen = selection.vault
        if chosen:
            folder = stack.enter_context(short_folder())
            stack.enter_context(exclusive_lease(chosen))
        else:
            token = stack.enter_context(throw_away("softhsm"))
            chosen, folder = (
                TokenConfiguration(token.location, token.pin, selection.minimum_custody),
                token.folder,
            )
        opened = stack.enter_context(_service(chosen, folder)).client()
        stack.callback(opened.close)
        yield opened


def _service(chosen: TokenConfiguration, folder: Path, rate: float = _RATE) -> VaultService:
    location = chosen.location
    return VaultService(
        location.module,
        location.conf,
        location.label,
        chosen.pin,
        folder / "run" / "vault",
        rate,
        options=location.options,
        minimum_custody=chosen.minimum_custody,
        provisioning=chosen.provisioning,
        openings_per_hour=None,
    )


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 107 bytes, pytest's are longer.

    In memory where there is such a place: SoftHSM rewrites an object's file some thirty times.
    """
    memory = Path("/dev/shm")  # noqa: S108 - only TemporaryDirectory makes names in it
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pv-", dir=parent) as folder:
        yield Path(folder)


@contextlib.contextmanager
def forgotten(module: Path) -> Iterator[None]:
    """What the test has open of a library, and has not closed as it failed, is closed with its
    token, and so is what its own code loads by python-pkcs11: the next test has another store."""
    try:
        yield
    finally:
        close_library(module)
        _unload(module)


def _unload(module: Path) -> None:
    pkcs11 = sys.modules.get("pkcs11")
    if pkcs11 is not None and str(module) in pkcs11._loaded:
        pkcs11.unload(str(module))
