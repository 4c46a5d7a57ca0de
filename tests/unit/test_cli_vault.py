"""`plugvault vault`, as a person or a script runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import load_der_x509_certificate

from evcc.identity import Identity
from evcc.ports.files import Files
from evcc.vault import VaultError
from evcc.vault import cryptoki as p11
from evcc.vault.levels import LEVELS
from evcc.vault.schemes import SCHEMES
from fixtures.tokens import CarToken
from plugvault.pytest_plugin.tokens import module_of
from plugvault.tokens import adoption, subprocess_probe
from plugvault.tokens.modules import known
from plugvault.tokens.providers import NSS
from world import PCID, World

COMMAND = [sys.executable, "-m", "plugvault.cli.app", "vault"]
MINE = ("PLUGVAULT_", "SOFTHSM2_CONF", "COLUMNS")


def plain(**more: str) -> dict[str, str]:
    """Return an environment without a configured token."""
    return {k: v for k, v in os.environ.items() if not k.startswith(MINE)} | more


def run(
    *arguments: object, code: int | None = 0, **environ: str
) -> subprocess.CompletedProcess[str]:
    """code: the exit status that it must have; None: any."""
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=plain(**environ),
    )
    assert code in (None, ended.returncode), ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def said(*arguments: object, **more: Any) -> Any:
    return json.loads(run(*arguments, "--json", **more).stdout)


@pytest.fixture
def pin_file(car_token: CarToken) -> Path:
    return private(car_token.folder / "pin", car_token.pin)


def private(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture
def here(car_token: CarToken, pin_file: Path) -> list[object]:
    """The options that name the car's token."""
    conf, label = car_token.conf, car_token.label
    return ["--conf", conf, "--token", label, "--pin", f"file:{pin_file}"]


@pytest.mark.parametrize("provider", ["softhsm", "nss"])
def test_a_throw_away_token_reports_its_custody_levels(
    provider: str, tmp_path: Path, softhsm: Path
) -> None:
    report = said("test", "--provider", provider, TMPDIR=str(tmp_path))
    assert set(report) == {"module", "token", "schemes"}
    assert report["schemes"]["iso2"]["level"] in LEVELS
    assert report["schemes"]["iso2"]["why"] or report["schemes"]["iso2"]["level"] == "L3"
    assert list(tmp_path.iterdir()) == []
    table = run("test", "--provider", provider).stdout
    assert all(word in table for word in ("iso2", report["schemes"]["iso2"]["level"]))


def test_a_test_leaves_a_token_as_it_was(car_token: CarToken, here: list[object]) -> None:
    vault = car_token.open()
    vault.generate_provisioning_key()
    before, objects = vault.keys(), len(vault._backend.find([]))
    assert said("test", *here)["token"] == car_token.label
    assert vault.keys() == before
    assert len(vault._backend.find([])) == objects
    vault.close()


def test_a_token_below_the_minimum_fails(here: list[object]) -> None:
    run("test", *here, "--minimum-custody", "L1")
    ended = run("test", *here, "--minimum-custody", "L3", code=1)
    assert "below L3: iso2" in ended.stderr


def test_status_shows_keys_and_their_custody(car_token: CarToken, here: list[object]) -> None:
    assert run("status", *here).stdout == "no keys of a car in this token\n"
    assert said("status", *here) == []
    vault = car_token.open()
    point = vault.generate_provisioning_key()
    vault.close()
    (key,) = said("status", *here)
    expected = {"key": "provisioning", "custody": "L3", "owner": "", "point": point.hex()}
    assert key == expected
    assert run("status", *here).stdout.splitlines()[-1].split() == ["provisioning", "L3", "-"]


def test_a_configuration_names_the_token_for_every_command(
    car_token: CarToken, pin_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "plugvault.toml"
    lines = {"token": car_token.label, "conf": car_token.conf, "pin": f"file:{pin_file}"}
    file.write_text("".join(f"{k} = {json.dumps(str(v))}\n" for k, v in lines.items()))
    assert said("status", "--config", file) == []
    assert said("status", PLUGVAULT_CONFIG=str(file)) == []
    assert said("test", "--config", file)["token"] == car_token.label


@pytest.mark.parametrize("provider", ["softhsm", "nss"])
def test_init_makes_a_token_that_its_lines_open(
    provider: str, short_dir: Path, softhsm: Path
) -> None:
    pin = private(short_dir / "pin", "1234-abcd")
    new = ["--provider", provider, "--folder", short_dir / "new", "--token", "car 18"]
    ended = run("init", *new, "--pin", f"file:{pin}")
    assert tomllib.loads(ended.stdout)["token"] == "car 18"
    config = private(short_dir / "plugvault.toml", ended.stdout)
    assert said("status", "--config", config) == []


@pytest.mark.parametrize("provider", ["softhsm", "nss"])
def test_init_never_overwrites_a_token(provider: str, short_dir: Path, softhsm: Path) -> None:
    pin, other_pin = (private(short_dir / name, f"1234-{name}") for name in ("pin", "other"))
    new = ["--provider", provider, "--folder", short_dir / "new", "--token", "car 18"]
    config = private(
        short_dir / "plugvault.toml", run("init", *new, "--pin", f"file:{pin}").stdout
    )
    before = contents(short_dir / "new")
    ended = run("init", *new, "--pin", f"file:{other_pin}", code=1)
    assert "never made over one that is there" in ended.stderr
    assert contents(short_dir / "new") == before
    assert said("status", "--config", config) == []


@pytest.mark.parametrize("again, code", [("1234-abcd", 0), ("1234-abcde", 1)])
def test_init_asks_twice_on_a_terminal_and_shows_nothing(
    again: str, code: int, short_dir: Path, softhsm: Path
) -> None:
    new = ["--provider", "softhsm", "--folder", str(short_dir / "new"), "--token", "car 18"]
    ours, terminal = pty.openpty()
    with (
        os.fdopen(ours, "r+b", buffering=0) as keyboard,
        subprocess.Popen(
            [*COMMAND, "init", *new],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=plain(),
            start_new_session=True,  # no other terminal to ask on than this one
        ) as process,
    ):
        assert process.stderr
        for word, typed in (("the new token", "1234-abcd"), ("it again", again)):
            prompt = f"PIN of {word}: ".encode()
            prompted = b""
            while not prompted.endswith(prompt):
                piece = process.stderr.read(1)
                assert piece, prompted
                prompted += piece
            keyboard.write(typed.encode() + b"\n")
        assert process.wait(60) == code
        output = process.stderr.read() + (process.stdout.read() if process.stdout else b"")
        os.set_blocking(ours, False)
        echo = keyboard.read(1000) or b""
        os.close(terminal)
    assert b"1234" not in output + echo
    assert (b"the two are not the same" in output) == bool(code)
    assert (short_dir / "new").exists() != bool(code)


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_init_takes_a_free_slot_of_a_library(
    car_token: CarToken, pin_file: Path, short_dir: Path
) -> None:
    officer = private(short_dir / "so", "so-1234")
    new = ["--module", car_token.module, "--conf", car_token.conf, "--token", "second"]
    pins = ["--pin", f"file:{pin_file}", "--so-pin", f"file:{officer}"]
    config = private(short_dir / "plugvault.toml", run("init", *new, *pins).stdout)
    assert said("status", "--config", config) == []
    assert "take another label" in run("init", *new, *pins, code=1).stderr
    tokens = said("list", "--module", car_token.module, "--conf", car_token.conf)
    assert {"car", "second"} <= {token["label"] for token in tokens}


def test_list_shows_tokens_and_their_problems(car_token: CarToken, here: list[object]) -> None:
    arguments = ["list", "--module", car_token.module, "--conf", car_token.conf]
    assert [row["label"] for row in said(*arguments)].count("car") == 1
    token = next(row for row in said(*arguments) if row["label"] == "car")
    assert {"module", "slot", "label", "serial", "manufacturer", "model", "flags"} <= set(token)
    assert "ready" in run(*arguments).stdout
    assert "empty: `plugvault vault init`" in run(*arguments).stdout
    wrong = private(car_token.folder / "wrong", "9999-not-it")
    ended = run("status", *here[:-1], f"file:{wrong}", code=1)
    assert "a wrong one is tried once" in ended.stderr
    assert "9999-not-it" not in ended.stderr
    assert "wrong at least once" in run(*arguments).stdout


def test_list_knows_softhsm_and_names_a_library_that_does_not_answer(
    car_token: CarToken, tmp_path: Path
) -> None:
    assert os.path.realpath(car_token.module) in known()
    assert "car" in run("list", SOFTHSM2_CONF=str(car_token.conf)).stdout
    junk = tmp_path / "junk.so"
    junk.write_bytes(b"not a library")
    ((only),) = said("list", "--module", junk, code=1)
    assert only["module"] == str(junk)
    assert only["error"].startswith("module-missing")


def test_list_names_the_options_that_nss_needs() -> None:
    first, *_ = said("list", "--module", module_of(NSS), code=None)
    starts_without = first.get("model") == "NSS 3"  # as 3.110 does, but not 3.87
    assert starts_without or "configdir='sql:" in first["error"]
    ((only),) = said("list", "--options", "of no library", code=1)
    assert "it does not take these options" in only["error"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["status"], "which token? --token LABEL: `plugvault vault list` shows"),
        (["test"], "--provider softhsm|nss"),
        (["test", "--conf", "nope.conf"], "there is no file nope.conf"),
        (["service", "--socket", "nope"], "no vault service answers at nope"),
        (["service", "--socket", __file__], "give its `VaultService` this path"),
        (["status", "--token", "car"], "where is its PIN?"),
        (["status", "--token", "car", "--pin", "4711-0815"], "never the PIN: file:PATH"),
        (["init", "--token", "car"], "--provider and --folder, or --module"),
        (["init", "--token", "car", "--provider", "nss"], "--provider and --folder"),
        (["test", "--provider", "softhsm", "--minimum-custody", "L9"], "is one of L1, L1+"),
    ],
)
def test_an_error_names_the_remedy(arguments: list[str], words: str) -> None:
    ended = run(*arguments, code=1)
    assert words in ended.stderr
    assert "4711-0815" not in ended.stderr + ended.stdout


def test_a_missing_token_is_reported(here: list[object]) -> None:
    arguments = [*here[:2], "--token", "nobody", *here[4:]]
    assert "`plugvault vault list` shows those" in run("status", *arguments, code=1).stderr


def test_a_library_that_ends_its_process_is_an_error_like_any() -> None:
    with pytest.raises(VaultError, match="unavailable: its library ended with"):
        subprocess_probe.run(os.abort)


def test_pin_is_on_no_command_line_and_in_no_child_s_environment(
    car_token: CarToken, here: list[object]
) -> None:
    arguments = [*map(str, here[:-1]), "env:CAR_PIN"]
    texts, children = [], set()
    with subprocess.Popen(
        [*COMMAND, "status", *arguments],
        stdout=subprocess.PIPE,
        env=plain(CAR_PIN=car_token.pin),
    ) as process:
        while process.poll() is None:
            for folder in Path("/proc").glob("[1-9]*"):
                line, environ = (read(folder / name) for name in ("cmdline", "environ"))
                if folder.name != str(process.pid) and b"subprocess_probe" in line:
                    children.add(folder.name)
                    texts.append(environ)
                texts.append(line)
    assert process.returncode == 0
    assert children
    assert [text for text in texts if car_token.pin.encode() in text] == []


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def made_elsewhere(car_token: CarToken) -> bytes:
    """A key pair that another program made; its point."""
    vault = car_token.open()
    try:
        common = [(p11.CKA_TOKEN, True), (p11.CKA_ID, b"\x01"), (p11.CKA_LABEL, b"factory key")]
        curve = SCHEMES["iso2"].ec_params
        public = [(p11.CKA_PRIVATE, False), (p11.CKA_VERIFY, True), (p11.CKA_EC_PARAMS, curve)]
        flags = [(p11.CKA_PRIVATE, True), (p11.CKA_SIGN, True), (p11.CKA_DERIVE, True)]
        flags += [(p11.CKA_SENSITIVE, True), (p11.CKA_EXTRACTABLE, False)]
        pair = vault._backend.generate(common + public, common + flags)
        return vault._backend.attribute(pair[0], p11.CKA_EC_POINT)[-65:]
    finally:
        vault.close()


@pytest.fixture
def config(car_token: CarToken, pin_file: Path, tmp_path: Path) -> Path:
    file = tmp_path / "plugvault.toml"
    lines = {"token": car_token.label, "conf": car_token.conf, "pin": f"file:{pin_file}"}
    file.write_text("".join(f"{k} = {json.dumps(str(v))}\n" for k, v in lines.items()))
    return file


def test_adopt_prints_the_line_that_names_the_key(car_token: CarToken, config: Path) -> None:
    point = made_elsewhere(car_token)
    ended = run("adopt", "--config", config, "--object", "factory key")
    assert ended.stdout == 'provisioning = "pkcs11:object=factory%20key;id=%01"\n'
    assert "Custody: L3" in ended.stderr
    config.write_text(config.read_text(encoding="utf-8") + ended.stdout, encoding="utf-8")
    expected = {"key": "adopted", "custody": "L3", "owner": "", "point": point.hex()}
    assert said("status", "--config", config) == [expected]
    assert "no private key" in run("adopt", "--config", config, "--object", "x", code=1).stderr


def test_adopt_takes_the_certificate_of_this_key_alone(
    car_token: CarToken, config: Path, tmp_path: Path
) -> None:
    point, world = made_elsewhere(car_token), World(int(time.time()))
    chain = world.provisioning(point).chain
    own, others = tmp_path / "own.pem", tmp_path / "others.pem"
    own.write_bytes(pem(chain))
    others.write_bytes(pem(world.provisioning(world.cps.point).chain))
    store = tmp_path / "store"
    adopt = ["adopt", "--config", config, "--object", "01"]
    assert "another key" in run(*adopt, "--certificate", others, code=1).stderr
    assert said(*adopt, "--certificate", own)["pcid"] == PCID
    assert not store.exists()
    assert "--certificate too" in run(*adopt, "--store", store, code=1).stderr
    run(*adopt, "--certificate", others, "--store", store, code=1)
    assert list(store.iterdir()) == []
    assert said(*adopt, "--certificate", own, "--store", store)["custody"] == "L3"
    vault = car_token.location.open(car_token.pin, "", "pkcs11:id=%01")
    identity = Identity(Files(str(store)), vault)
    assert (identity.pcid, identity.certificate) == (PCID, chain[0])
    assert identity.custody() == "L3"
    vault.close()


def pem(chain: list[bytes]) -> bytes:
    certificates = (load_der_x509_certificate(der) for der in chain)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    form = PrivateFormat.PKCS8, NoEncryption()
    text = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, *form)
    return private(tmp_path / "key.pem", text.decode())


def test_import_asks_before_and_says_that_the_key_is_imported(
    config: Path, key_file: Path
) -> None:
    arguments = ["import", "--config", config, "--key", key_file]
    assert "say --yes" in run(*arguments, code=1).stderr
    assert said("status", "--config", config) == []
    report = said(*arguments, "--yes", "--object", "from a file")
    assert report["custody"] == "imported"
    with config.open("a", encoding="utf-8") as file:
        file.write(f"provisioning = {json.dumps(report['provisioning'])}\n")
    (key,) = said("status", "--config", config)
    assert (key["custody"], key["point"]) == ("imported", report["point"])
    again = run(*arguments, "--yes", "--object", "from a file", code=1)
    assert "a key called from a file" in again.stderr
    refused = run("adopt", "--config", config, "--object", "from a file", *LOWEST, code=1)
    assert "the provisioning key is imported" in refused.stderr
    assert "not L1" in run(*arguments, "--yes", *LOWEST, code=1).stderr


LOWEST = ("--minimum-custody", "L1")


def junk(file: Path) -> None:
    file.write_text(
        "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n", encoding="utf-8"
    )


def another_curve(file: Path) -> None:
    form = PrivateFormat.PKCS8, NoEncryption()
    key = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, *form)
    file.write_bytes(key)


def with_a_password(file: Path) -> None:
    form = PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    file.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, *form))


@pytest.mark.parametrize(
    "change, words",
    [
        (junk, "not a private key in PEM or DER without a password"),
        (with_a_password, "not a private key in PEM or DER without a password"),
        (another_curve, "on another curve than P-256"),
        (lambda file: file.chmod(0o644), "chmod 600"),
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_text("x" * 20000), "longer than any key"),
    ],
)
def test_import_refuses_a_file_without_a_usable_key(
    config: Path, key_file: Path, change: Any, words: str
) -> None:
    change(key_file)
    ended = run("import", "--config", config, "--key", key_file, "--yes", code=1)
    assert words in ended.stderr


def test_bytes_read_from_a_key_file_are_wiped(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiped: list[Any] = []
    real = adoption.wipe
    monkeypatch.setattr(adoption, "wipe", lambda data: (wiped.append(data), real(data)))
    scalar, _ = adoption.read_key(key_file)
    assert any(scalar)
    assert [type(data) for data in wiped] == [bytes, bytearray]
    assert not any(any(data) for data in wiped)
