"""A token library's own troubles: each is told by its cause, with the file or the way out."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pkcs11
import pytest

from evcc.vault import VaultError
from fixtures.disks import fill
from fixtures.tokens import CarToken
from plugvault.cryptoki import loaded
from plugvault.pytest_plugin import tokens
from plugvault.tokens import Hsm, TokenStore
from plugvault.tokens.nss import NssStore


def remove_conf(store: TokenStore) -> str:
    store.conf.unlink()
    return f"its configuration cannot be read: {store.conf}"


def remove_folder(store: TokenStore) -> str:
    for file in sorted(store.tokens.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    store.tokens.rmdir()
    return f"its folder of tokens cannot be read: {store.tokens}"


def empty_conf(store: TokenStore) -> str:
    store.conf.write_text("log.level = ERROR\n")
    return f"{store.conf} has no line directories.tokendir"


@pytest.mark.parametrize("harm", [remove_conf, remove_folder])
def test_a_store_that_is_gone_is_named(
    harm: Callable[[TokenStore], str], car_token: CarToken
) -> None:
    words = harm(car_token.store)
    with pytest.raises(VaultError) as caught:
        Hsm(car_token.module, car_token.conf)
    assert caught.value.reason == "unavailable"
    assert words in str(caught.value)


def test_a_configuration_without_a_store_is_named(car_token: CarToken) -> None:
    """SoftHSM falls back to a folder of the system, which may exist."""
    from evcc.vault.softhsm import trouble

    assert trouble(str(car_token.conf)) == ""
    assert empty_conf(car_token.store) == trouble(str(car_token.conf))


def test_a_configuration_of_the_environment_that_is_gone_is_named(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library is opened without a configuration of ours."""
    monkeypatch.setenv("SOFTHSM2_CONF", "/nowhere/softhsm2.conf")
    with pytest.raises(VaultError, match=r"/nowhere/softhsm2\.conf; SOFTHSM2_CONF names"):
        Hsm(car_token.module)


@pytest.mark.parametrize("name", ["a#b", "a\nb", "a\tb"])
def test_a_folder_that_a_configuration_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"^refused: SoftHSM cannot be told"):
        TokenStore(tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a'b", "a\nb", "a=b"])
def test_a_folder_that_the_text_for_nss_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"^refused: NSS cannot be told"):
        NssStore(tmp_path / name, "/any.so")


def test_a_disk_without_room_for_a_store_is_named(
    softhsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(VaultError, match=rf"^full: .*{tmp_path}/hsm: No space left"):
        TokenStore(tmp_path / "hsm")


def test_a_token_on_a_full_disk_names_its_folder(small_disk: CarToken) -> None:
    fill(small_disk.folder)
    with pytest.raises(VaultError, match=rf"^full: .*{small_disk.store.tokens}"):
        small_disk.add("another")


def test_a_library_that_other_code_has_initialised_is_refused_by_name(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", str(car_token.conf))
    with tokens.closed_library(Path(car_token.module)):
        assert ctypes.CDLL(str(car_token.module)).C_Initialize(None) == 0
        with pytest.raises(VaultError, match=r"^refused: .*other code.*service"):
            Hsm(car_token.module, car_token.conf)
    with Hsm(car_token.module, car_token.conf) as hsm:  # it ended with the context
        assert hsm.token(car_token.label, car_token.pin)


def test_a_library_of_other_code_is_shared_and_left_open(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", str(car_token.conf))
    path = str(car_token.module)
    with tokens.closed_library(Path(path)):
        theirs = pkcs11.lib(path)
        token = theirs.get_token(token_label=car_token.label)
        with token.open(rw=True, user_pin=car_token.pin) as session:
            vault = car_token.open()
            vault.generate_provisioning_key()
            vault.close()
            assert len(list(session.get_objects())) == 2
        assert loaded.is_initialised(path)
        with pytest.raises(VaultError, match=r"^token-missing: .*open by other code"):
            Hsm(path, car_token.conf).token("another", car_token.pin)
    assert not loaded.is_initialised(path)


def test_our_library_is_that_of_other_code_by_every_path(car_token: CarToken) -> None:
    with Hsm(car_token.module, car_token.conf) as hsm:
        assert hsm.token(car_token.label, car_token.pin)
        for path in (str(car_token.module), os.path.realpath(car_token.module)):
            assert pkcs11.lib(path).get_token(token_label=car_token.label)
    assert loaded.names(str(car_token.module)) == []
