"""PINs: their sources, the places that never show them, and the single try of a wrong one."""

from __future__ import annotations

import getpass
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evcc.vault import VaultError
from evcc.vault.cryptoki import tries_left
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.cryptoki import pin_attempts
from plugvault.cryptoki.direct_calls import DirectCalls
from plugvault.tokens import Hsm, pin

SECRET = "4711-0815-secret"


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    file = tmp_path / "pin"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return file


def refused(source: Any) -> VaultError:
    with pytest.raises(VaultError) as caught:
        pin.read(source)
    assert caught.value.reason == "pin"
    return caught.value


def everything_of(error: BaseException) -> str:
    """Return everything that a log of an error with its context shows."""
    return "".join(traceback.format_exception(error)) + repr(error.__context__) + repr(vars(error))


def test_pin_comes_from_a_file(pin_file: Path) -> None:
    assert pin.read(f"file:{pin_file}") == SECRET


def test_pin_comes_from_the_environment_and_is_gone_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAR_PIN", SECRET)
    assert pin.read("env:CAR_PIN") == SECRET
    environment = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert SECRET not in environment
    assert "CAR_PIN" in refused("env:CAR_PIN").detail


def test_pin_is_wiped_from_the_process_environment_in_proc() -> None:
    """/proc shows the initial memory of the environment, not its later state."""
    code = (
        "from plugvault.tokens import pin; found = pin.read('env:CAR_PIN');"
        "import sys; print(found[::-1], flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "CAR_PIN": SECRET, "NOT_CAR_PIN": "kept", "CAR_PIN_2": "kept too"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline().strip() == SECRET[::-1]
        environ = Path(f"/proc/{process.pid}/environ").read_bytes()
        process.stdin.close()
    assert b"NOT_CAR_PIN=kept\0" in environ
    assert b"CAR_PIN_2=kept too\0" in environ
    assert b"CAR_PIN=" in environ
    assert SECRET.encode() not in environ


def test_pin_is_read_where_the_system_shows_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setenv("CAR_PIN", SECRET)
    monkeypatch.setattr(Path, "read_bytes", closed)
    assert pin.read("env:CAR_PIN") == SECRET


def test_pin_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda words: prompts.append(words) or SECRET)
    assert pin.read("prompt", "car 17") == SECRET
    assert prompts == ["PIN of car 17: "]


def test_pin_is_not_asked_for_without_a_terminal() -> None:
    code = "from plugvault.tokens import pin; pin.read('prompt')"
    ended = subprocess.run(
        [sys.executable, "-c", code], input=SECRET, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "no terminal to ask on: use file:PATH" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_pin_comes_from_a_function() -> None:
    assert pin.read(lambda: SECRET) == SECRET


def raising() -> str:
    raise ValueError(f"the vault's {SECRET}")


@pytest.mark.parametrize("source", [raising, SECRET.encode, lambda: [SECRET]])
def test_function_that_fails_shows_nothing_of_the_pin(source: Callable[[], Any]) -> None:
    error = refused(source)
    assert "the PIN's function" in error.detail
    # Its own lines of source are in the traceback; the value must not be.
    assert SECRET not in str(error) + repr(error.__context__) + repr(error.__cause__)


@pytest.mark.parametrize(
    "source", [SECRET, f"pin:{SECRET}", f"prompt:{SECRET}", "file:", "env:", "", "file"]
)
def test_pin_itself_is_refused_as_a_source(source: str) -> None:
    error = refused(source)
    assert "never the PIN: file:PATH, env:NAME or prompt" in error.detail
    assert SECRET not in str(error)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_file_that_others_may_read_is_refused(pin_file: Path, mode: int) -> None:
    pin_file.chmod(mode)
    assert f"chmod 600 {pin_file}" in refused(f"file:{pin_file}").detail


def test_error_of_a_file_without_a_pin_names_the_remedy(pin_file: Path, tmp_path: Path) -> None:
    assert "write the PIN there" in refused(f"file:{tmp_path}/none").detail
    pin_file.write_text("\n", encoding="utf-8")
    assert "is empty" in refused(f"file:{pin_file}").detail
    pin_file.write_bytes(b"\xff" + SECRET.encode())
    assert SECRET not in everything_of(refused(f"file:{pin_file}"))


class Logins:
    """C_Login as it reaches the library, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = DirectCalls.login

        def counted(*call: Any) -> None:
            self.count += 1
            real(*call)

        monkeypatch.setattr(DirectCalls, "login", counted)


def attempt(car_token: CarToken, pin_: str) -> VaultError | None:
    try:
        with Hsm(car_token.module, car_token.conf) as hsm:
            hsm.token(car_token.label, pin_)
    except VaultError as error:
        return error
    return None


def test_wrong_pin_reaches_the_token_once(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = Logins(monkeypatch)
    for words in ("PinIncorrect", "wrong before, not tried again", "wrong before"):
        error = attempt(car_token, "9999-not-it")
        assert error
        assert error.reason == "pin"
        assert words in error.detail
    assert logins.count == 1
    assert attempt(car_token, "9998-not-it") is not None  # another one is another try
    assert attempt(car_token, car_token.pin) is None
    assert logins.count == 3


def test_token_that_fails_otherwise_is_tried_again(car_token: CarToken) -> None:
    """Only what the token said of the PIN is remembered."""
    key = ("right", "some module", "car")
    with pytest.raises(VaultError, match="unavailable"), pin_attempts.one_attempt(*key):
        raise VaultError("unavailable")
    with pin_attempts.one_attempt(*key):
        pass


def test_wrong_pin_reaches_the_token_once_through_the_service_too(car_token: CarToken) -> None:
    right, car_token.pin = car_token.pin, "9996-not-it"
    for words in ("PinIncorrect", "wrong before, not tried again"):
        with pytest.raises(VaultError, match=words), car_token.service():
            pass
    car_token.pin = right
    with car_token.service() as service:
        service.client().random(1)


def test_wrong_pin_is_remembered_without_being_kept(car_token: CarToken) -> None:
    attempt(car_token, "9997-not-it")
    memory = repr(pin_attempts._wrong) + repr(vars(pin_attempts)) + repr(vars(pin))
    assert pin_attempts._wrong
    assert "9997-not-it" not in memory


@pytest.mark.parametrize(
    "flags, words",
    [
        (0x40D, ""),
        (0x1040D, "at least once"),
        (0x3040D, "one try left"),
        (0x4040D, "locked"),
        (0x7040D, "locked"),
    ],
)
def test_remaining_tries_follow_the_token_flags(flags: int, words: str) -> None:
    assert words in tries_left(flags)
    assert bool(tries_left(flags)) == bool(words)


def test_softhsm_says_that_the_pin_was_wrong_before(car_token: CarToken) -> None:
    error = attempt(car_token, "9999-not-it")
    assert error
    assert error.detail.endswith("wrong at least once since it was last right")


FFI = """
import sys
from evcc.vault import VaultError, pkcs11
try:
    pkcs11.open(sys.argv[1], sys.argv[2], sys.stdin.readline().strip())
except VaultError as error:
    print(error)
"""


def test_module_through_ffi_reports_it_too(car_token: CarToken, tmp_path: Path) -> None:
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    script = tmp_path / "script.py"
    script.write_text(FFI)
    ended = subprocess.run(
        [*runtime.argv, str(script), str(car_token.module), car_token.label],
        env={**runtime.env(), **car_token.store.env()},
        input="9999-not-it\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == ("pin: C_Login: 0xa0; wrong at least once since it was last right\n"), (
        ended.stderr
    )


# SoftHSM never locks. Here it does, after three: the two calls that differ are put into its
# function list, in a process that ends with the test.
LOCKING = """
import ctypes, sys
from evcc.vault import VaultError
from plugvault.tokens import Hsm

module, conf, label, right = [*sys.argv[1:], sys.stdin.readline().strip()]
ulong, text = ctypes.c_ulong, ctypes.c_void_p
table = ctypes.c_void_p()
library = ctypes.CDLL(module)
library.C_GetFunctionList(ctypes.byref(table))
functions = (ctypes.c_void_p * 68).from_address(table.value + ctypes.sizeof(text))
GET_TOKEN_INFO, LOGIN = 6, 18
Info = ctypes.CFUNCTYPE(ulong, ulong, text)
Login = ctypes.CFUNCTYPE(ulong, ulong, ulong, text, ulong)
info_of, login_of = Info(functions[GET_TOKEN_INFO]), Login(functions[LOGIN])
wrong = 0

def info(slot, at):
    code = info_of(slot, at)
    flags = ulong.from_address(at + 96)
    flags.value = flags.value & ~0x10000 | (0, 0x10000, 0x30000, 0x70000)[min(wrong, 3)]
    return code

def login(session, user, pin, length):
    global wrong
    if wrong >= 3:
        return 0xA4  # CKR_PIN_LOCKED
    code = login_of(session, user, pin, length)
    wrong += code == 0xA0  # CKR_PIN_INCORRECT
    return code

put = Info(info), Login(login)
functions[GET_TOKEN_INFO], functions[LOGIN] = (ctypes.cast(f, text).value for f in put)
with Hsm(module, conf) as hsm:
    for n, pin in enumerate(["wrong-1", "wrong-2", "wrong-2", "wrong-3", right]):
        try:
            hsm.token(label, pin)
        except VaultError as error:
            print(error)
print(wrong)
"""


def test_last_try_and_a_locked_token_are_named(car_token: CarToken) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-c", LOCKING),
            *(str(car_token.module), str(car_token.conf), car_token.label),
        ],
        input=car_token.pin,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == [
        "pin: PinIncorrect; wrong at least once since it was last right",
        "pin: PinIncorrect; one try left: the next wrong PIN locks the token",
        "pin: wrong before, not tried again by this process",
        "pin: PinIncorrect; locked, the security officer must set a new one",
        "pin-locked: PinLocked; locked, the security officer must set a new one",
        "3",
    ]


def test_pin_is_in_no_process_list_environment_or_log(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process of its own opens a car's token with a PIN from the environment; the test searches
    all running processes and all written files for the PIN."""
    monkeypatch.setenv("CAR_PIN", car_token.pin)
    secret = car_token.pin = pin.read("env:CAR_PIN")
    caplog.set_level(logging.DEBUG)
    with car_token.service() as service:
        service.client().random(8)
        shown_by_process = dict(processes())
        assert str(service.pid) in shown_by_process
        assert [
            number for number, content in shown_by_process.items() if secret.encode() in content
        ] == []
        assert secret not in repr(service)
    car_token.pin = "9999-not-it"
    with pytest.raises(VaultError, match=r"^pin") as caught, car_token.service():
        pass
    texts = [caplog.text, everything_of(caught.value)]
    assert [text for text in texts if secret in text or "9999-not-it'" in text] == []
    files = [file for file in car_token.folder.rglob("*") if file.is_file()]
    assert files
    assert [file for file in files if secret.encode() in file.read_bytes()] == []


def processes() -> list[tuple[str, bytes]]:
    """Return what other users (the command line) and this user (the environment) can read of each
    process. The initial environment of this process cannot be changed any more and is left out."""
    rows = []
    for folder in Path("/proc").glob("[1-9]*"):
        text = b""
        for name in ("cmdline", "environ"):
            if name == "environ" and folder.name == str(os.getpid()):
                continue
            try:
                text += (folder / name).read_bytes()
            except OSError:  # ended, of another user, or protected
                continue
        rows.append((folder.name, text))
    return rows
