"""Tokens of one's own: for the car of the demo, for a role of an ecosystem, for the module."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from evcc.vault import VaultError
from fixtures.sandbox import Running, children
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.folder import Folder
from plugvault.tokens import Hsm, probes, subprocess_probe
from plugvault.tokens.providers import NSS
from plugvault.tokens.selection import TokenConfiguration
from world import NOW

LEVEL_OF_NSS = "L3"


def nss(folder: Path, label: str) -> TokenConfiguration:
    pin = secrets.token_hex(8)
    return TokenConfiguration(NSS.make(folder / label, label, pin), pin)


def config(folder: Path, chosen: TokenConfiguration, head: str = "", **more: str) -> Path:
    """A configuration file that names the token."""
    pin, file = folder / f"{chosen.location.label}.pin", folder / f"{chosen.location.label}.toml"
    for path, text in ((pin, chosen.pin), (file, "")):
        path.touch(mode=0o600)
        path.write_text(text)
    location = chosen.location
    keys = {"module": location.module, "token": location.label, "options": location.options}
    keys |= {"conf": location.conf or "", "pin": f"file:{pin}", **more}
    lines = [f"{key} = {json.dumps(str(value))}" for key, value in keys.items()]
    file.write_text("\n".join([head, *lines]))
    return file


def demo(*arguments: object) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-m", "plugvault.cli.app", "demo", "--json", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    data: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == (0 if data["ok"] else 1)
    return data


def keys(chosen: TokenConfiguration) -> list[dict[str, str]]:
    return subprocess_probe.run(probes.list_keys, location=chosen.location, pin=chosen.pin)


@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_demo_has_its_car_s_keys_in_the_named_token(
    runtime: str, short_dir: Path, softhsm: Path
) -> None:
    if runtime == "micropython" and not runtimes.get("debian"):
        pytest.skip("no interpreter 'debian' here; make says why")
    chosen = nss(short_dir, "car 17")
    file = config(short_dir, chosen, minimum_custody=LEVEL_OF_NSS)
    kept_folder = short_dir / "kept"
    data = demo("--config", file, "--runtime", runtime, "--keep", kept_folder)
    assert data["ok"], data["error"]
    assert {contract["custody"] for contract in data["contracts"]} == {LEVEL_OF_NSS}
    assert keys(chosen) == []
    written = [path.read_bytes() for path in kept_folder.rglob("*") if path.is_file()]
    assert [content for content in written if chosen.pin.encode() in content] == []


def test_demo_leaves_a_token_in_use_alone(car_token: CarToken) -> None:
    vault = car_token.open()
    point = vault.generate_provisioning_key()
    vault.close()
    chosen = TokenConfiguration(car_token.location, car_token.pin)
    data = demo("--config", config(car_token.folder, chosen), "--runtime", "cpython")
    assert "name a token without" in data["error"]
    assert [key["point"] for key in keys(chosen)] == [point.hex()]


@pytest.mark.parametrize("runtime", ["cpython", "micropython"])
def test_token_below_the_minimum_gets_no_contract(runtime: str, car_token: CarToken) -> None:
    chosen = TokenConfiguration(car_token.location, car_token.pin)
    file = config(car_token.folder, chosen, minimum_custody="L3")
    data = demo("--config", file, "--runtime", runtime)
    assert "L3 is asked for" in data["error"]
    assert data["steps"][-1]["name"] == "factory"
    assert keys(chosen) == []


def test_minimum_counts_for_the_demo_s_own_token_too(softhsm: Path) -> None:
    data = demo("--minimum-custody", "L3", "--runtime", "cpython")
    assert "L3 is asked for, this token gives L1+" in data["error"]


@pytest.mark.parametrize("change, code", [({}, 0), ({"pin": "9999-not-it"}, 78), ({"min": 1}, 78)])
def test_module_ends_with_78_when_a_restart_would_fail_again(
    change: dict[str, Any], code: int, car_token: CarToken
) -> None:
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    pin = car_token.folder / "pin"
    pin.touch(0o600)
    pin.write_text(change.get("pin", car_token.pin))
    vault = {"kind": "pkcs11", "module": str(car_token.module), "token": car_token.label}
    vault |= {"pin_file": str(pin), "minimum_custody": "L3" if "min" in change else "L1"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        link = {"kind": "tcp", "host": host, "port": port}
        configuration = {"link": link, "vault": vault, "store": str(car_token.folder / "store")}
        (car_token.folder / "config.json").write_text(
            json.dumps({**configuration, "maker": "04" * 65})
        )
        with subprocess.Popen(
            [*runtime.argv, str(runtimes.firmware() / "main.py"), "config.json"],
            cwd=car_token.folder,
            env={**runtime.env(), **car_token.location.env()},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = listener.accept()
            if code == 0:
                connection.close()
            with connection:
                assert process.wait(30) == code
            assert process.stderr
            words = process.stderr.read()
    assert words.startswith({0: "", 78: "custody" if "min" in change else "pin"}[code])
    assert "9999-not-it" not in words


class Eco:
    """One folder, its tokens opened with these in place of its own."""

    def __init__(self, folder: Path, softhsm: Path) -> None:
        self.folder, self.softhsm = folder, softhsm

    def start(self, **role_tokens: TokenConfiguration) -> bytes:
        """The operator's public key."""
        with ExitStack() as stack:
            folder = Folder(self.folder, self.softhsm, role_tokens=role_tokens)
            tokens = folder.tokens(stack, *LABELS)
            pki = Authorities(folder, tokens, NOW, "http://127.0.0.1/ocsp")
            return pki.operator.key.point

    def refuses(self, words: str, **role_tokens: TokenConfiguration) -> None:
        with pytest.raises(VaultError, match=words):
            self.start(**role_tokens)


def test_role_s_keys_are_in_the_named_token_only(short_dir: Path, softhsm: Path) -> None:
    eco, own = Eco(short_dir / "eco", softhsm), nss(short_dir, "operator")
    point = eco.start(mo=own)
    assert eco.start(mo=own) == point
    location = own.location
    with Hsm(location.module, options=location.options) as hsm:
        assert hsm.token(location.label, own.pin).key("mo-sub2").point == point
    secrets_file = json.loads((eco.folder / "secrets.json").read_text())
    assert "mo" not in secrets_file["made"]
    assert own.pin not in json.dumps(secrets_file)


def test_role_is_not_moved_to_another_token_under_its_certificates(
    short_dir: Path, softhsm: Path
) -> None:
    own, other_token = (nss(short_dir, label) for label in ("operator", "other"))
    away, home = Eco(short_dir / "away", softhsm), Eco(short_dir / "home", softhsm)
    home.start()
    home.refuses("keys of mo are in this folder, not in operator of", mo=own)
    away.start(mo=own)
    away.refuses("keys of mo are in operator of .*, not in this folder")
    away.refuses("keys of mo are in operator of .*, not in other of", mo=other_token)
    away.refuses("each role needs a token of its own", mo=own, cps=own)
    away.refuses("no role emp: there are v2g, oem", emp=own)


def test_sandbox_has_a_role_in_the_token_that_its_configuration_names(
    short_dir: Path, softhsm: Path
) -> None:
    own = nss(short_dir, "operator")
    file = config(short_dir, own, "[role.mo]")
    running = Running("--port", "0", "--config", str(file), PLUGVAULT_PKCS11_MODULE=str(softhsm))
    try:
        assert any("emaid" in car for car in running.said["vehicles"])  # signed by that token
        answer = running.http.get("/v1/root/rootCerts", headers=running.bearer("CPO"))
        assert answer.status_code == 200
        pids = [running.process.pid, *children(running.process.pid)]
        texts = b"".join(
            Path(f"/proc/{pid}/{name}").read_bytes()
            for pid in pids
            for name in ("cmdline", "environ")
        )
        assert len(pids) > 2
        assert own.pin.encode() not in texts
    finally:
        running.end()


def test_sandbox_reports_an_error_of_a_role_s_token(short_dir: Path, softhsm: Path) -> None:
    own = nss(short_dir, "operator")
    file = config(short_dir, TokenConfiguration(own.location, "9999-not-it"), "[role.mo]")
    for arguments, words in (
        (["--config", str(file)], "PinIncorrect"),
        (["--config", str(file), "--providers", "a,b"], "no --providers"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "plugvault.cli.app", "sandbox", "--port", "0", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert ended.returncode == 1
        assert words in ended.stdout + ended.stderr
        assert "9999-not-it" not in ended.stdout + ended.stderr
