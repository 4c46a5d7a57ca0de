"""NSS softoken's tokens: made without any configuration of the system, opened by a string."""

import os
import stat
from pathlib import Path

import pytest

from evcc.vault import PROVISIONING, VaultError
from fixtures.tokens import CarToken
from plugvault.cryptoki import secret
from plugvault.cryptoki.nss import NssLibrary
from plugvault.tokens import Hsm, nss
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.nss import NssStore

DIGEST = bytes(32)


@pytest.fixture
def store(nss_car: CarToken) -> NssStore:
    return NssStore(nss_car.folder / "hsm")


def test_folder_that_others_could_read_is_closed_to_them(
    nss_car: CarToken, tmp_path: Path
) -> None:
    folder = tmp_path / "nss"
    folder.mkdir(mode=0o755)
    NssStore(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_store_is_readable_by_its_owner_only(store: NssStore) -> None:
    vault = TokenLocation(store.module, "car", options=store.options)
    assert vault.env() == {}
    for path in [store.directory, *store.directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_token_keeps_its_keys(nss_car: CarToken) -> None:
    vault = nss_car.open()
    point = vault.generate_provisioning_key()
    vault.close()
    again = nss_car.open()
    assert again.keys() == [(PROVISIONING, point)]
    assert again.verify(point, DIGEST, again.sign(PROVISIONING, DIGEST))
    again.close()


def test_store_can_hold_several_tokens_each_with_its_own_keys(nss_car: CarToken) -> None:
    nss_car.add("van")
    car, van = nss_car.open(), nss_car.open("van")
    points = {vault.generate_provisioning_key() for vault in (car, van)}
    assert len(points) == 2
    assert [len(vault.keys()) for vault in (car, van)] == [1, 1]
    car.close()
    van.close()


def test_wrong_pin_is_the_pin(nss_car: CarToken) -> None:
    with pytest.raises(VaultError, match=r"^pin"):
        nss_car.location.open("not the pin")


def test_token_is_made_once(store: NssStore, nss_car: CarToken) -> None:
    with pytest.raises(VaultError, match=r"^exists"):
        store.init_token("car", "another pin")
    nss_car.open().close()


@pytest.mark.parametrize("label", ["", ".", "..", "../up", "a/b", "it's", "a>b", ".hidden"])
def test_label_that_is_no_folder_or_ends_the_string_is_refused(
    store: NssStore, label: str
) -> None:
    with pytest.raises(VaultError, match=r"^refused"):
        store.init_token(label, "a pin")
    assert [folder.name for folder in store.directory.iterdir()] == ["car"]


@pytest.mark.parametrize(
    ("label", "pin", "error"), [("x" * 33, "a pin", "refused: .*32 bytes"), ("van", "", "pin: ")]
)
def test_token_that_could_not_be_made_leaves_no_folder(
    store: NssStore, label: str, pin: str, error: str
) -> None:
    with pytest.raises(VaultError, match=error):
        store.init_token(label, pin)
    assert [folder.name for folder in store.directory.iterdir()] == ["car"]


def test_folder_that_would_end_the_string_is_refused(store: NssStore, tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"^refused: NSS cannot be told"):
        NssStore(tmp_path / "it's")


def test_machine_without_nss_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nss, "_MODULES", ("/no/*.so",))
    with pytest.raises(VaultError, match=r"module-missing: .*libnss3"):
        nss.find_module()


def test_library_in_use_by_other_code_is_not_taken_over(
    nss_car: CarToken, store: NssStore
) -> None:
    """Finalizing or reusing the library would break its other user in this process."""
    foreign = NssLibrary(os.path.realpath(store.module), store.options)
    try:
        with pytest.raises(VaultError, match="other code in this process"):
            nss_car.open()
    finally:
        foreign.close()
    nss_car.open().close()


def test_process_has_one_store_open_at_a_time(nss_car: CarToken, store: NssStore) -> None:
    vault = nss_car.open()
    with pytest.raises(VaultError, match=r"^refused: .*another store"):
        Hsm(store.module, options=store.options + " flags=readOnly")
    vault.close()


def test_child_of_a_fork_does_not_use_its_parents_session(nss_car: CarToken) -> None:
    vault = nss_car.open()
    vault.generate_provisioning_key()
    child = os.fork()
    if not child:
        try:
            vault.sign(PROVISIONING, DIGEST)
            os._exit(0)
        except VaultError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    vault.sign(PROVISIONING, DIGEST)
    vault.close()


@pytest.mark.parametrize("curve", ["secp256r1", "secp521r1"])
def test_roles_key_can_be_in_it(nss_car: CarToken, curve: str) -> None:
    with Hsm(nss_car.module, options=nss_car.location.options) as hsm:
        key = hsm.token("car", nss_car.pin).generate("root", curve=curve)
        size = 32 if curve == "secp256r1" else 64
        assert len(key.sign_digest(bytes(size))) == len(key.point) - 1
        assert hsm.token("car", nss_car.pin).key("root").point == key.point


def test_derived_secrets_can_be_in_it(nss_car: CarToken) -> None:
    with Hsm(nss_car.module, options=nss_car.location.options) as hsm:
        derived = secret.generate(hsm.token("car", nss_car.pin), "hooks").derive("one")
        assert secret.find(hsm.token("car", nss_car.pin), "hooks").derive("one") == derived
