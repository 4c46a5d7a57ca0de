"""`plugvault sandbox` without any set-up, for a person and for a program."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from fixtures.sandbox import Running, eventually
from plugvault.cli import sandbox as command
from plugvault.requests.run import read_values, run
from plugvault.requests.write import ENVIRONMENT
from plugvault.roles.client import Credentials, OpcpClient

ROLES = {"OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN"}


def test_the_printed_line_holds_everything_a_client_needs(sandbox: Running):
    announced = sandbox.said
    assert announced["token_url"] == f"{announced['url']}/oauth/token"
    assert set(announced["roles"]) == ROLES
    for credentials in announced["roles"].values():
        assert set(credentials) == {"client_id", "client_secret", "audience"}
        assert credentials["audience"] == announced["url"]
    first, *other_cars = announced["vehicles"]
    assert set(first) == {"pcid", "vin", "plate", "document", "emaid"}
    assert other_cars
    assert all(set(car) == {"pcid", "vin", "plate", "document"} for car in other_cars)


def test_the_first_calls_work(sandbox: Running):
    car = sandbox.said["vehicles"][0]
    maker, operator = sandbox.bearer("OEM"), sandbox.bearer("MO_EXTERNAL_PKI")
    answer = sandbox.http.get(f"/v1/oem/provCerts/{car['pcid']}", headers=operator)
    assert answer.status_code == 200
    contracts = sandbox.http.get(f"/v1/ccp/signedContractData/{car['pcid']}", headers=maker)
    (contract,) = contracts.json()["XMLContracts"]
    assert contract["emaid"] == car["emaid"]


def test_both_editions_have_their_roots(sandbox: Running):
    roots = sandbox.http.get("/v1/root/rootCerts", headers=sandbox.bearer("CPO")).json()
    listed = roots["RootCertificateCollection"]["rootCertificates"]
    curves = {root["signatureAlgorithm"] for root in listed if root["rootType"] == "V2G"}
    assert curves == {"secp256r1", "secp521r1", "ed448"}


def test_a_sample_is_found_by_plate_and_document(sandbox: Running):
    operator = sandbox.bearer("MO_HUBJECT_PKI")
    for car in sandbox.said["vehicles"]:
        lookup = {"plate": car["plate"], "registrationDocument": car["document"]}
        answer = sandbox.http.post("/v1/registry/vehicles/lookup", json=lookup, headers=operator)
        assert answer.json() == {"pcid": car["pcid"]}


def test_the_folder_is_reused_by_the_next_start(tmp_path: Path, softhsm: Path):
    options = ("--port", "0", "--data", str(tmp_path / "data"))
    announced = []
    for _ in range(2):
        running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))
        announced.append(running.said)
        maker = running.bearer("OEM")
        roots = running.http.get("/v1/root/rootCerts", headers=maker).json()
        announced[-1]["roots"] = roots
        assert "another command is using it" in refusal(*options)
        assert running.end() == 130
    first, second = announced
    for role in ROLES:
        for member in ("client_id", "client_secret"):
            assert first["roles"][role][member] == second["roles"][role][member]
    assert first["vehicles"] == second["vehicles"]
    assert first["roots"] == second["roots"]
    folder = tmp_path / "data"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secrets = [first["roles"][role]["client_secret"].encode() for role in ROLES]
    files_with_secrets = [
        file
        for file in folder.rglob("*")
        if file.is_file() and any(secret in file.read_bytes() for secret in secrets)
    ]
    assert files_with_secrets == [folder / "secrets.json"]
    assert stat.S_IMODE(files_with_secrets[0].stat().st_mode) == 0o600


def test_open_mode_needs_no_token(softhsm: Path):
    running = Running("--port", "0", "--open", PLUGVAULT_PKCS11_MODULE=str(softhsm))
    try:
        answer = running.http.get("/v1/root/rootCerts")
        assert answer.status_code == 200
        assert answer.headers["x-open-mode"].startswith("OPEN MODE")
    finally:
        running.end()


def test_several_providers_know_each_others_vehicles_over_https(tmp_path: Path, softhsm: Path):
    options = ("--port", "0", "--providers", "north,south", "--tls", "--data", str(tmp_path))
    running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))
    try:
        announced = running.said
        north, south = announced["providers"]["north"], announced["providers"]["south"]
        assert {key: announced[key] for key in north} == north
        assert {car["pcid"] for car in north["vehicles"]}.isdisjoint(
            car["pcid"] for car in south["vehicles"]
        )
        root = tmp_path / "north" / "certificates" / "v2g-root.pem"
        trust = ssl.create_default_context(cafile=root)
        operator = Credentials(**north["roles"]["MO_EXTERNAL_PKI"])
        with OpcpClient(north["url"], operator, trust) as client:
            for car in south["vehicles"]:
                assert client.call("GET", f"/v1/oem/provCerts/{car['pcid']}")
    finally:
        running.end()


def test_two_machines_are_one_ecosystem(tmp_path: Path, softhsm: Path, postgresql_url: str):
    """Each has a copy of the folder; database and the clients' address are common."""
    common = ("--port", "0", "--url", "http://ecosystem.example", "--database", postgresql_url)
    environment = {"PLUGVAULT_PKCS11_MODULE": str(softhsm)}
    first = Running(*common, "--data", str(tmp_path / "first"), **environment)
    try:
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        second = Running(*common, "--data", str(tmp_path / "second"), **environment)
        try:
            assert first.said == second.said
            tokens = [machine.bearer("ADMIN") for machine in (first, second)]
            body = {"name": "Somebody", "registry": "test"}
            put = first.http.put("/v1/registry/providers/ZZ001", json=body, headers=tokens[1])
            assert put.status_code == 200, put.text
            answer = second.http.get("/v1/registry/providers/ZZ001", headers=tokens[0])
            assert answer.json()["name"] == "Somebody"
        finally:
            second.end()
    finally:
        first.end()


def test_a_killed_process_on_postgresql_comes_again(softhsm: Path, postgresql_url: str):
    running = Running(
        *("--port", "0", "--database", postgresql_url), PLUGVAULT_PKCS11_MODULE=str(softhsm)
    )
    try:
        admin = running.bearer("ADMIN")
        for pid in running.children():
            os.kill(pid, signal.SIGKILL)
        car = running.said["vehicles"][0]["pcid"]
        at = f"/v1/oem/provCerts/lookupVehicle/{car}"
        eventually(lambda: running.http.get(at, headers=running.bearer("OEM")).is_success)
        assert running.http.get("/v1/root/rootCerts", headers=admin).status_code == 200
    finally:
        running.end()


def test_https_is_trusted_under_the_v2g_root(tmp_path: Path, softhsm: Path):
    requests_folder = tmp_path / "requests"
    options = ("--port", "0", "--tls", "--data", str(tmp_path), "--requests", str(requests_folder))
    running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))
    try:
        url = running.said["url"]
        assert url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=tmp_path / "certificates" / "v2g-root.pem")
        with httpx.Client(base_url=url, verify=trust, trust_env=False, timeout=20) as http:
            credentials = {**running.said["roles"]["OEM"], "grant_type": "client_credentials"}
            token = http.post("/oauth/token", json=credentials).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            assert http.get("/v1/root/rootCerts", headers=headers).status_code == 200
        values = read_values(requests_folder / ENVIRONMENT)
        text = (requests_folder / "09-roots.http").read_text()
        root = tmp_path / "certificates" / "v2g-root.pem"
        assert all(outcome.ok for outcome in run(text, values, root))
        with httpx.Client(base_url=url, trust_env=False) as http, pytest.raises(httpx.HTTPError):
            http.get("/")
    finally:
        running.end()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--providers", "one"), "two to nine"),
        (("--providers", "a,a"), "two to nine"),
        (("--providers", "a,../b"), "letters and digits"),
        (("--providers", "a,b", "--database", "postgresql://h/d"), "{provider}"),
        (("--providers", "a,b", "--url", "http://a"), "no --url"),
        (("--url", "ecosystem.example"), "https://"),
        (("--requests", "/proc/nowhere"), "/proc/nowhere: No such"),
        (("--allow-network", "10.0.0.0/99"), "10.0.0.0/99"),
    ],
)
def test_invalid_options_are_reported(options: tuple[str, ...], words: str):
    app = typer.Typer()
    app.command()(command.sandbox)
    result = CliRunner().invoke(app, ["--port", "0", *options])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert words in unboxed(result.stderr + result.stdout)


def test_an_unknown_kind_of_database_is_reported():
    error = refusal("--port", "0", "--database", "mysql://h/d")
    assert "sqlite:///FILE or postgresql://" in error


def test_a_taken_port_is_reported_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = refusal("--port", str(listener.getsockname()[1]))
    assert "--port 0" in error


def refusal(*options: str) -> str:
    command = [sys.executable, "-m", "plugvault.cli.app", "sandbox", *options]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode in (1, 2)
    assert "Traceback" not in process.stderr
    return unboxed(process.stderr + process.stdout)


def unboxed(text: str) -> str:
    return " ".join(text.replace("│", " ").split())
