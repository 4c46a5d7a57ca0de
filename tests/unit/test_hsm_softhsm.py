"""SoftHSM token stores: private to their owner, with PINs that no other user can read."""

import _ssl
import ctypes
import fcntl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.tokens import CarToken
from plugvault import openssl_errors
from plugvault.tokens import Hsm, TokenStore, VaultError, find_module


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_store_is_readable_by_its_owner_only(softhsm: Path, tmp_path: Path) -> None:
    (tmp_path / "hsm").mkdir(mode=0o755)
    store = TokenStore(tmp_path / "hsm")
    assert [mode(p) for p in (store.directory, store.tokens)] == [0o700, 0o700]
    assert mode(store.conf) == 0o600
    assert store.env() == {"SOFTHSM2_CONF": str(store.conf)}


def test_store_opened_again_has_its_tokens(car_token: CarToken) -> None:
    again = TokenStore(car_token.store.directory)
    with Hsm(again.module, again.conf) as hsm:
        assert hsm.token(car_token.label, car_token.pin).label == car_token.label


def test_a_library_leaves_no_errors_to_ssl(car_token: CarToken) -> None:
    """`ssl` would report them as the failure of the next connection of this thread."""
    first_error = ctypes.CDLL(_ssl.__file__).ERR_peek_error
    first_error.restype = ctypes.c_ulong
    openssl_errors.clear()
    with Hsm(car_token.module, car_token.conf) as hsm:
        assert first_error() == 0
        assert hsm.token(car_token.label, car_token.pin).label == car_token.label
        assert first_error() == 0


def test_pins_of_a_new_token_are_on_no_command_line_and_in_no_environment(
    softhsm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    run = subprocess.run

    def spy(arguments, **options):
        seen.extend([*arguments, *options["env"].values()])
        return run(arguments, **options)

    monkeypatch.setattr(subprocess, "run", spy)
    TokenStore(tmp_path).init_token("t", "user-pin-1357", "so-pin-2468")
    assert seen
    assert not [text for text in seen if "pin-" in text]


def test_label_is_used_once(car_token: CarToken) -> None:
    with pytest.raises(VaultError, match="exists"):
        car_token.store.init_token(car_token.label, "123456", "123456")


@pytest.mark.parametrize(("user", "so"), [("123", "123456"), ("123456", "123"), ("", "")])
def test_refused_pin_leaves_no_token_half_made(
    softhsm: Path, tmp_path: Path, user: str, so: str
) -> None:
    store = TokenStore(tmp_path)
    with pytest.raises(VaultError, match=r"^pin"):
        store.init_token("t", user, so)
    assert list(store.tokens.iterdir()) == []
    store.init_token("t", "123456", "123456")
    with Hsm(store.module, store.conf) as hsm:
        hsm.token("t", "123456")


@pytest.mark.parametrize("label", ["", "x" * 33])
def test_label_that_pkcs11_cannot_hold_is_refused(
    softhsm: Path, tmp_path: Path, label: str
) -> None:
    with pytest.raises(VaultError, match=r"^refused"):
        TokenStore(tmp_path).init_token(label, "123456", "123456")


def test_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGVAULT_PKCS11_MODULE", "/no/such/module.so")
    with pytest.raises(VaultError, match=r"module-missing: /no/such/module\.so"):
        find_module()


def test_module_is_named_from_the_current_folder_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.so").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUGVAULT_PKCS11_MODULE", "mine.so")
    assert find_module() == tmp_path / "mine.so"


def test_tokens_are_made_one_at_a_time(
    softhsm: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SoftHSM sometimes fails on a token that another process is still creating."""
    store, run, commands = TokenStore(short_dir / "hsm"), subprocess.run, []

    def watched(*args: Any, **how: Any) -> Any:
        with store.conf.open() as lock_file, pytest.raises(BlockingIOError):
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        commands.append(args)
        return run(*args, **how)

    monkeypatch.setattr(subprocess, "run", watched)
    store.init_token("car", "1" * 8, "2" * 8)
    assert len(commands) == 1


def test_store_without_a_module_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PLUGVAULT_PKCS11_MODULE", raising=False)
    monkeypatch.setattr("plugvault.tokens.softhsm._MODULES", ("/no/*.so",))
    with pytest.raises(VaultError, match=r"module-missing: .*softhsm2"):
        TokenStore(tmp_path)


ROOT = Path(__file__).parents[2]


def test_configuration_to_copy_is_the_one_a_store_writes(softhsm: Path, tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    copy = (ROOT / "softhsm" / "softhsm2.conf").read_text().replace("TOKENS", str(store.tokens))
    settings = [line for line in copy.splitlines() if not line.startswith("#")]
    assert settings == store.conf.read_text().splitlines()


def test_development_token_is_made_with_pins_from_stdin(softhsm: Path, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, ROOT / "softhsm" / "make_token.py", tmp_path, "dev"],
        input="user-pin\nso-pin\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == f"export SOFTHSM2_CONF={tmp_path}/softhsm2.conf\n"
    with Hsm(softhsm, tmp_path / "softhsm2.conf") as hsm:
        hsm.token("dev", "user-pin")


@pytest.mark.parametrize(
    ("pins", "error"), [("user-pin\n", "two lines"), ("1\n2\n", "4 to 255 bytes")]
)
def test_development_token_without_proper_pins_is_one_clear_line(
    softhsm: Path, tmp_path: Path, pins: str, error: str
) -> None:
    process = subprocess.run(
        [sys.executable, ROOT / "softhsm" / "make_token.py", tmp_path, "dev"],
        input=pins,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert error in process.stderr
    assert process.stderr.count("\n") == 1
