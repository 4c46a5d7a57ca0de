"""The token fails a module that drives it itself, through `ffi`: as it fails the vault service.

What is common to both ways, and not a fault, is in tests/both/vault_conformance.py.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pkcs11
import pytest

import envelopes
import world
from evcc.vault import PROVISIONING, VaultError
from fixtures.disks import fill, object_files, overlooked, read_only
from fixtures.tokens import SIGN_INIT, CarToken, returning
from plugvault import runtimes


@contextmanager
def module_running(token: CarToken, code: str, *more: object) -> Iterator[Any]:
    """`code` on a MicroPython with `ffi`: its arguments are the library, the token's label, the
    library's options and `more`; the first line of its stdin is the PIN."""
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    script, location = token.folder / "module.py", token.location
    script.write_text(code)
    argv = [*runtime.argv, script, location.module, location.label, location.options, *more]
    with subprocess.Popen(
        list(map(str, argv)),
        env={**runtime.env(), **location.env()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as module:
        assert module.stdin is not None
        module.stdin.write(token.pin + "\n")
        yield module


FFI = """
import sys
from evcc.vault import PROVISIONING, VaultError, pkcs11
module, label = sys.argv[1:3]
pin, *case = sys.stdin.readline().split()
try:
    vault = pkcs11.open(module, label, pin)
    if case:
        scheme, dh, wrapped, public = case
        vault.open_contract_key(
            scheme, bytes.fromhex(dh), bytes.fromhex(wrapped), b"", bytes.fromhex(public)
        )
    vault.sign(PROVISIONING, bytes(32))
    print("signed")
except VaultError as e:
    print(e.reason, str(e).find(pin))
"""


def through_ffi(
    car_token: CarToken, module: str = "", pin: str = "", label: str = "car", case: str = ""
) -> str:
    """MicroPython's own vault answers "signed", or the reason, and -1 for "no PIN in it"."""
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    script = car_token.folder / "ffi.py"
    if not script.exists():
        script.write_text(FFI)
    ended = subprocess.run(
        [*runtime.argv, script, module or car_token.module, label],
        env={**runtime.env(), **car_token.store.env()},
        input=f"{pin or car_token.pin} {case}\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.stdout.strip() or ended.stderr


def test_module_meets_the_same_errors(car_token: CarToken) -> None:
    vault = car_token.open()
    vault.generate_provisioning_key()
    vault.close()
    assert through_ffi(car_token) == "signed"
    assert through_ffi(car_token, pin="wrong-pin") == "pin -1"
    assert through_ffi(car_token, label="unknown") == "token-missing -1"
    assert through_ffi(car_token, module="/no/such/module.so") == "module-missing -1"
    car_token.conf.write_text("directories.tokendir = /no/such/folder\n")
    assert through_ffi(car_token) in ("token-missing -1", "unavailable -1")


WAITING = """
import sys
from evcc.vault import PROVISIONING, pkcs11
vault = pkcs11.open(sys.argv[1], sys.argv[2], sys.stdin.readline().strip())
print(len(vault.keys()))
sys.stdin.readline()
print(vault.public(PROVISIONING) == vault.keys()[0][1])
"""


def test_module_sees_a_key_that_softhsm_overlooked(car_token: CarToken) -> None:
    with module_running(car_token, WAITING) as module, closing(car_token.open()) as vault:
        assert module.stdout.readline() == "0\n"
        with overlooked(car_token):
            vault.generate_provisioning_key()
        module.stdin.write("go\n")
        assert module.stdout.readline() == "True\n"


def test_module_tries_a_wrong_pin_once(car_token: CarToken) -> None:
    """One wrong PIN at a token makes it say so; the flag is gone after a right one."""

    def low() -> bool:
        lib = pkcs11.lib(os.path.realpath(car_token.module))
        try:
            token = lib.get_token(token_label="car")
            return bool(token.flags & pkcs11.TokenFlag.USER_PIN_COUNT_LOW)
        finally:
            pkcs11.unload(os.path.realpath(car_token.module))

    os.environ.update(car_token.store.env())
    assert not low()
    assert through_ffi(car_token, pin="wrong-pin") == "pin -1"
    assert low()


def test_module_meets_a_full_disk(small_disk: CarToken) -> None:
    static = envelopes.new_key()
    small_disk.plant_provisioning_key(static)
    case = envelopes.envelope(world.point(static), envelopes.KNOWN_KEY)
    words = f"{case['scheme']} {case['dh'].hex()} {case['wrapped'].hex()} {case['public'].hex()}"
    assert through_ffi(small_disk, case=words) == "signed"
    before = object_files(small_disk)
    fill(small_disk.folder)
    assert through_ffi(small_disk, case=words) == "full -1"
    assert object_files(small_disk).keys() == before.keys()
    assert through_ffi(small_disk) == "signed"


# The reasons of both ways to a token, for each answer of its library to a signature.
SAID = {
    0x02: "full",  # HOST_MEMORY
    0x06: "refused",  # FUNCTION_FAILED
    0x31: "full",  # DEVICE_MEMORY
    0x32: "token-missing",  # DEVICE_REMOVED
    0x82: "unavailable",  # OBJECT_HANDLE_INVALID
    0xE0: "token-missing",  # TOKEN_NOT_PRESENT
    0xE1: "token-missing",  # TOKEN_NOT_RECOGNIZED
    0xE2: "full",  # TOKEN_WRITE_PROTECTED
}
SAYING = """
import sys
from evcc.vault import PROVISIONING, VaultError, pkcs11
vault = pkcs11.open(sys.argv[1], sys.argv[2], sys.stdin.readline().strip())
vault.generate_provisioning_key()
for code in sys.argv[4:]:
    vault._backend._functions["SignInit"] = lambda *_: int(code)
    try:
        vault.sign(PROVISIONING, bytes(32))
    except VaultError as e:
        print(e.reason)
"""


def test_module_reports_the_errors_of_the_library(car_token: CarToken) -> None:
    with module_running(car_token, SAYING, *SAID) as module:
        assert module.stdout.read().split() == list(SAID.values())


def test_host_reports_the_same_errors(car_token: CarToken) -> None:
    with closing(car_token.open()) as vault:
        vault.generate_provisioning_key()
        for code, reason in SAID.items():
            with (
                returning(car_token.module, SIGN_INIT, int(code)),
                pytest.raises(VaultError) as caught,
            ):
                vault.sign(PROVISIONING, bytes(32))
            assert caught.value.reason == reason


OPENING_LATER = """
import sys
from evcc.vault import VaultError, pkcs11
module, label, options = sys.argv[1:]
vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options)
print(vault.generate_provisioning_key().hex())
while True:
    case = sys.stdin.readline().split()
    if not case:
        break
    dh, wrapped, public = [bytes.fromhex(one) for one in case]
    try:
        print(vault.open_contract_key("iso2", dh, wrapped, b"", public).hex())
    except VaultError as e:
        print(e.reason, len(vault.keys()))
"""


def test_module_reports_a_token_that_became_read_only(each_token: CarToken) -> None:
    """And does not say of a good envelope that it is a bad one."""
    with module_running(each_token, OPENING_LATER) as module:
        point = bytes.fromhex(module.stdout.readline())
        case = envelopes.envelope(point, envelopes.KNOWN_KEY)
        words = " ".join(case[name].hex() for name in ("dh", "wrapped", "public")) + "\n"
        with read_only(each_token.folder / "hsm"):
            module.stdin.write(words)
            assert module.stdout.readline() == "full 1\n"
        module.stdin.write(words)
        assert len(module.stdout.readline().strip()) == 32, "the id of a key"
        module.stdin.write("\n")
