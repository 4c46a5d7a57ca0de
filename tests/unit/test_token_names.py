"""Tokens by label, serial number and URI: on the host, through ffi, and for the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from evcc.vault import PROVISIONING, VaultError, uri
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.tokens import Hsm, probes, subprocess_probe
from plugvault.tokens.selection import choose, choose_roles

FFI = """
import sys
from evcc.vault import PROVISIONING, VaultError, pkcs11
try:
    vault = pkcs11.open(sys.argv[1], sys.argv[2], sys.stdin.readline().strip(), sys.argv[3])
    print(vault.public(PROVISIONING).hex())
except VaultError as error:
    print(error)
"""


class Twins:
    """Two tokens of one label; the first has a provisioning key."""

    def __init__(self, token: CarToken) -> None:
        token.add("cat")
        for file in (token.folder / "hsm" / "tokens").glob("*/token.object"):
            data = file.read_bytes()
            file.write_bytes(data.replace(b"cat".ljust(32), b"car".ljust(32)))
        self.token = token
        tokens = subprocess_probe.run(
            probes.list_tokens, module=str(token.module), conf=str(token.conf), options=""
        )
        self.serials = sorted(row["serial"] for row in tokens if row["label"] == "car")
        assert len(self.serials) == 2
        vault = self.opened(f"pkcs11:serial={self.serials[0]}")
        self.point = vault.generate_provisioning_key()
        vault.close()

    def opened(self, name: str):
        return replace(self.token.location, label=name).open(self.token.pin)

    def through_ffi(self, name: str) -> str:
        runtime = runtimes.get("debian")
        if runtime is None:
            pytest.skip("no interpreter 'debian' here; make says why")
        script = self.token.folder / "script.py"
        script.write_text(FFI)
        ended = subprocess.run(
            [*runtime.argv, str(script), str(self.token.module), name, ""],
            env={**runtime.env(), **self.token.env()},
            input=self.token.pin + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()


@pytest.fixture
def twins(car_token: CarToken) -> Twins:
    return Twins(car_token)


def test_two_tokens_of_one_label_are_refused_both_ways_with_their_serials(twins: Twins) -> None:
    words = (
        f"refused: 2 tokens are car: say which by its serial number: {', '.join(twins.serials)}"
    )
    with pytest.raises(VaultError) as caught:
        twins.opened("car")
    assert str(caught.value) == words
    assert twins.through_ffi("car") == words


def test_a_serial_number_selects_the_token_both_ways(twins: Twins) -> None:
    first, second = (uri.named("car", serial) for serial in twins.serials)
    vault = twins.opened(first)
    assert vault.public(PROVISIONING) == twins.point
    vault.close()
    vault = twins.opened(second)
    with pytest.raises(VaultError, match="not-found"):
        vault.public(PROVISIONING)
    vault.close()
    assert twins.through_ffi(first) == twins.point.hex()
    assert twins.through_ffi(second).startswith("not-found")


@pytest.mark.parametrize("name", ["pkcs11:token=", "pkcs11:token=ca%2", "", "x" * 33])
def test_a_malformed_name_is_refused_both_ways(car_token: CarToken, name: str) -> None:
    with pytest.raises(VaultError) as caught:
        replace(car_token.location, label=name).open(car_token.pin)
    twins = Twins.__new__(Twins)
    twins.token = car_token
    assert caught.value.reason == "refused"
    assert twins.through_ffi(name) == str(caught.value)


def test_a_token_that_is_open_is_known_by_its_other_names(car_token: CarToken) -> None:
    with Hsm(car_token.module, car_token.conf) as hsm:
        token = hsm.token("car", car_token.pin)
        assert hsm.token("pkcs11:token=car", car_token.pin) is token
        assert token.label == "car"
        with pytest.raises(VaultError, match="pin"):
            hsm.token("pkcs11:token=car;model=SoftHSM%20v2", "not it")


@pytest.fixture
def pin_file(car_token: CarToken) -> Path:
    file = car_token.folder / "pin"
    file.touch(0o600)
    file.write_text(car_token.pin)
    return file


def environment(car_token: CarToken) -> dict[str, str]:
    return {"SOFTHSM2_CONF": str(car_token.conf)}


@pytest.fixture
def token_uri(car_token: CarToken, pin_file: Path) -> str:
    """A URI that says everything."""
    path = uri.encoded(str(car_token.module).encode()).replace("%2F", "/")
    return f"pkcs11:token=car?module-path={path}&pin-source=file:{pin_file}"


def test_a_uri_names_the_token_wherever_one_is_named(
    car_token: CarToken, token_uri: str, tmp_path: Path
) -> None:
    plain, file = environment(car_token), tmp_path / "plugvault.toml"
    file.write_text(
        f"token = {json.dumps(token_uri)}\n[role.v2g]\ntoken = {json.dumps(token_uri)}\n"
    )
    selections = [
        choose({"token": token_uri}, environ=dict(plain)).vault,
        choose(environ={**plain, "PLUGVAULT_TOKEN": token_uri}).vault,
        choose(file=file, environ=dict(plain)).vault,
        choose_roles(file, dict(plain))["v2g"],
    ]
    for chosen in selections:
        assert chosen
        assert (chosen.location.label, chosen.pin) == ("pkcs11:token=car", car_token.pin)
        assert chosen.location.module == car_token.module
    vault = selections[0].open() if selections[0] else None
    assert vault
    vault.close()


def test_a_setting_of_higher_priority_names_the_token_alone(
    car_token: CarToken, pin_file: Path, tmp_path: Path
) -> None:
    """A serial number of the file does not go with a label of the command."""
    file = tmp_path / "plugvault.toml"
    file.write_text(f'token = "other"\nserial = "99"\npin = "file:{pin_file}"\n')
    chosen = choose({"token": "car"}, file, environment(car_token)).vault
    assert chosen
    assert chosen.location.label == "car"
    chosen = choose({"serial": "01"}, file, environment(car_token)).vault
    assert chosen
    assert chosen.location.label == "pkcs11:serial=01"


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"token": "pkcs11:token=car?module-path=/x.so", "module": "/x.so"},
            "module is said twice",
        ),
        ({"token": "pkcs11:token=car?pin-source=file:/p", "pin": "file:/p"}, "pin is said twice"),
        ({"token": "pkcs11:serial=1", "serial": "1"}, "the serial number is said twice"),
        ({"token": "pkcs11:token=car;object=key", "pin": "file:/p"}, "names no object"),
        ({"token": "pkcs11:token=car?pin-value=4711"}, "never the PIN"),
        ({"token": "pkcs11:token=car?pin-source=4711"}, "pin-source is file:/PATH"),
        ({"provisioning": "pkcs11:object=key"}, "a provisioning without its token"),
        ({"token": "car", "pin": "file:/p", "provisioning": "key"}, "begins with pkcs11:"),
        ({"token": "car", "pin": "file:/p", "provisioning": "pkcs11:type=private"}, "named by"),
    ],
)
def test_a_duplicate_or_empty_setting_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(VaultError) as caught:
        choose(options, environ={})
    assert words in caught.value.detail
    assert "4711" not in str(caught.value)


@pytest.fixture
def command(car_token: CarToken) -> Iterator[list[str]]:
    return [sys.executable, "-m", "plugvault.cli.app", "vault"]


def test_the_command_takes_a_uri_and_a_serial_number(twins: Twins, command: list[str]) -> None:
    pin_file = twins.token.folder / "pin"
    pin_file.touch(0o600)
    pin_file.write_text(twins.token.pin)
    more = ["--conf", str(twins.token.conf), "--pin", f"file:{pin_file}", "--json"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        arguments_ = [*command, "status", *arguments, *more]
        return subprocess.run(arguments_, capture_output=True, text=True, check=False)

    ended = run("--token", "car")
    assert ended.returncode == 1
    assert all(serial in ended.stderr for serial in twins.serials)
    for arguments in (
        ["--token", "car", "--serial", twins.serials[0]],
        ["--serial", twins.serials[0]],
        ["--token", f"pkcs11:serial={twins.serials[0]}"],
    ):
        (key,) = json.loads(run(*arguments).stdout)
        assert key["point"] == twins.point.hex()
    assert asdict(twins.token.location)["label"] == "car"
