"""Every vault and every Cryptoki backend has the methods of its interface, and no others."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from evcc.vault import Vault
from evcc.vault.backend import CryptokiBackend
from evcc.vault.pkcs11 import TokenVault
from evcc.vault.service import ServiceVault
from plugvault.cryptoki.backend import HostBackend

FFI_BACKEND = Path(__file__).parents[2] / "firmware/evcc/vault/ffi_backend.py"
SHARED = {"create", "check_room", "flush", "reload"}  # implemented in the base class


def methods(kind: type[Any]) -> dict[str, list[str]]:
    """{name: parameters} of a class's public methods."""
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def source_methods(path: Path) -> dict[str, list[str]]:
    """The same of the only class with public methods in a file that CPython cannot import."""
    return {
        method.name: [argument.arg for argument in method.args.args]
        for kind in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(kind, ast.ClassDef)
        for method in kind.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
    }


@pytest.mark.parametrize("kind", [TokenVault, ServiceVault])
def test_vault_has_exactly_the_methods_of_the_interface(kind: type[Any]) -> None:
    assert methods(kind) == methods(Vault)
    assert not [name for name in methods(Vault) if getattr(kind, name) is getattr(Vault, name)]


def test_backend_of_the_host_has_exactly_the_methods_of_the_interface() -> None:
    assert methods(HostBackend).keys() == methods(CryptokiBackend).keys()
    missing = [
        name
        for name in methods(CryptokiBackend).keys() - SHARED
        if getattr(HostBackend, name) is getattr(CryptokiBackend, name)
    ]
    assert not missing


def test_backend_of_the_board_has_exactly_the_methods_of_the_interface() -> None:
    interface = methods(CryptokiBackend)
    own = {name: parameters for name, parameters in interface.items() if name not in SHARED}
    assert source_methods(FFI_BACKEND) == own
