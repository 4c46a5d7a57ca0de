"""Tokens for one test: a temporary one, or an exclusive lease of the configured one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from evcc.vault import VaultError
from evcc.vault.pkcs11 import TokenVault
from evcc.vault.service import ServiceVault
from plugvault.cryptoki import loaded
from plugvault.cryptoki.hsm import close_library
from plugvault.temporary import temporary_folder
from plugvault.tokens.lease import exclusive_lease
from plugvault.tokens.providers import PROVIDERS, TokenProvider
from plugvault.tokens.selection import Selection, TokenConfiguration
from plugvault.vault_service.service import VaultService

LABEL = "test"
_RATE = 1e6  # operations a second: no limit for tests


class ThrowAway:
    """An empty token with a PIN of its own.

    module, label, conf, options: see `plugvault.tokens.location.TokenLocation`. folder: the
    token's own; files and sockets of the test may be put there.
    """

    def __init__(self, provider: TokenProvider, folder: Path, label: str = LABEL) -> None:
        self.folder = folder
        self.provider = provider
        self.pin = secrets.token_hex(8)
        self.location = provider.make(folder / "hsm", label, self.pin)
        self.label = self.location.label
        self.module, self.conf = self.location.module, self.location.conf
        self.options = self.location.options

    def env(self) -> dict[str, str]:
        """The environment variables of a process that opens the token."""
        return self.location.env()

    def open(self, minimum_custody: str = "") -> TokenVault:
        """The token's vault, in this process. A process has one SoftHSM store open at a time."""
        return self.location.open(self.pin, minimum_custody)

    def service(self, minimum_custody: str = "", rate: float = _RATE) -> VaultService:
        """The token's vault in a separate process, not yet started."""
        return _service(
            TokenConfiguration(self.location, self.pin, minimum_custody), self.folder, rate
        )


def module_of(provider: TokenProvider) -> Path:
    """The provider's library. Without one the test is skipped; under CI it fails."""
    try:
        return provider.find_module()
    except VaultError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@contextlib.contextmanager
def throw_away(provider: str, label: str = LABEL) -> Iterator[ThrowAway]:
    """An empty token of a provider, removed at the end of the context. The test is skipped without
    its library."""
    kind = PROVIDERS[provider]
    module_of(kind)
    with short_folder() as folder:
        token = ThrowAway(kind, folder, label)
        with (
            pytest.MonkeyPatch.context() as environment,
            closed_library(token.module, bool(token.conf)),
        ):
            for name, value in token.env().items():
                environment.setenv(name, value)
            yield token


@contextlib.contextmanager
def vault(selection: Selection) -> Iterator[ServiceVault]:
    """The fixture `vault`: a car's key store on the configured token or a temporary one."""
    with contextlib.ExitStack() as stack:
        configured = selection.vault
        if configured:
            folder = stack.enter_context(short_folder())
            stack.enter_context(exclusive_lease(configured))
        else:
            token = stack.enter_context(throw_away("softhsm"))
            folder, minimum = token.folder, selection.minimum_custody
            configured = TokenConfiguration(token.location, token.pin, minimum)
        client = stack.enter_context(_service(configured, folder)).client()
        stack.callback(client.close)
        yield client


def _service(token: TokenConfiguration, folder: Path, rate: float = _RATE) -> VaultService:
    return VaultService(token, folder / "run" / "vault", rate, openings_per_hour=None)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path: a socket's path has at most 107 bytes, and pytest's are longer.

    In memory if there is room: SoftHSM rewrites an object's file some thirty times.
    """
    with temporary_folder("pv-", despite_tmpdir=True) as folder:
        yield folder


@contextlib.contextmanager
def closed_library(module: Path, is_softhsm: bool = True) -> Iterator[None]:
    """Close the library at the end, because the next test has another store.

    That includes a test that failed before it closed its own, or that initialised the library
    itself. A library that was initialised before the test is left to the code that did it. (NSS:
    only this package can initialise it.)
    """
    path = str(module)
    is_anothers = is_softhsm and loaded.is_initialised(path)
    try:
        yield
    finally:
        close_library(module)
        if not is_anothers:
            loaded.end(path)
            if is_softhsm:
                loaded.finalize(path)
