"""The collection of HTTP requests against a live sandbox: every request as its file expects."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.sandbox import Running
from plugvault.cli import requests as command
from plugvault.requests import PARTNERS, collection
from plugvault.requests.run import Outcome, RequestsError, parse, read_values, run
from plugvault.requests.write import ENVIRONMENT

NAMES = [file.name for file in collection()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, softhsm: Path) -> Iterator[Path]:
    """Yield the folder of `plugvault sandbox --requests` while its two partners run."""
    target = tmp_path_factory.mktemp("requests") / "here"
    options = ("--port", "0", "--providers", "north,south", "--requests", str(target))
    running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))
    yield target
    running.end()


@pytest.mark.parametrize("name", NAMES)
def test_every_request_comes_out_as_its_file_expects(folder: Path, name: str):
    outcomes = list(run((folder / name).read_text(), read_values(folder / ENVIRONMENT)))
    wrong = [f"{o.request.title}: {o.status} {o.text[:300]}" for o in outcomes if not o.ok]
    assert wrong == []
    assert len(outcomes) > 2


@pytest.mark.parametrize("name", NAMES)
def test_every_request_states_its_expected_status(name: str):
    (file,) = (file for file in collection() if file.name == name)
    for request in parse(file.read_text()):
        assert request.title
        assert request.expect


def test_every_variable_is_used_and_files_with_secrets_are_private(folder: Path):
    values = read_values(folder / ENVIRONMENT)
    text = "".join((folder / name).read_text() for name in NAMES)
    settings = folder / ".vscode" / "settings.json"
    shared = json.loads(settings.read_text())["rest-client.environmentVariables"]["$shared"]
    assert shared == values
    for file in (settings, folder / ENVIRONMENT):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    spare = {name for name in values if f"{{{{{name}}}}}" not in text}
    assert all(name.startswith("car") or name.endswith("_emaid") for name in spare)


def test_a_lone_ecosystem_gets_no_requests_about_partners(sandbox_folder: Path):
    assert {file.name for file in sandbox_folder.glob("*.http")} == {*NAMES} - {PARTNERS}


@pytest.fixture
def sandbox_folder(tmp_path: Path, softhsm: Path) -> Iterator[Path]:
    running = Running(
        "--port", "0", "--requests", str(tmp_path), PLUGVAULT_PKCS11_MODULE=str(softhsm)
    )
    yield tmp_path
    running.end()


# The runner.


def carried_out(folder: Path, text: str, *options: str) -> tuple[int, str]:
    file = folder / "one.http"
    file.write_text(text)
    env = folder / "env.json"
    env.write_text(json.dumps({"here": {"url": "http://127.0.0.1:1"}}))
    import typer

    app = typer.Typer()
    app.command()(command.requests)
    ended = CliRunner().invoke(app, [str(file), "--env", str(env), *options])
    return ended.exit_code, ended.output


def test_an_unexpected_status_is_reported_and_ends_with_1(folder: Path, tmp_path: Path):
    url = read_values(folder / ENVIRONMENT)["url"]
    text = f"### No token\n# @expect 200\nGET {url}/v1/root/rootCerts\n"
    status, output = carried_out(tmp_path, text)
    assert status == 1
    assert "401" in output
    assert "A bearer token is needed" in output
    status, output = carried_out(tmp_path, text.replace("200", "401"), "--json")
    assert status == 0
    assert json.loads(output)["ok"] is True


def test_a_silent_server_is_no_success(tmp_path: Path):
    status, output = carried_out(tmp_path, "### Unanswered\nGET {{url}}/\n")
    assert status == 1
    assert "no server at http://127.0.0.1:1: Connection refused" in output
    status, output = carried_out(tmp_path, "### Unanswered\nGET {{url}}/\n", "--json")
    assert status == 1
    assert json.loads(output)["reason"] == "no server at http://127.0.0.1:1: Connection refused"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("### No request\n\n", "METHOD and URL"),
        ("### Odd\n# @expect soon\nGET http://x/\n", "METHOD and URL"),
        ("### Unknown\nGET {{nowhere}}/\n", "{{nowhere}} is not known"),
        ("### Scheme\nGET ftp://x/\n", "Scheme: no request of HTTP"),
        ("### Name\nGET http://%s.invalid/\n" % ("a" * 70), "Name: no request of HTTP"),
        ("### Header\nGET {{url}}/\nX: Müller\n", "Header: no request of HTTP"),
        ("### Later\nGET {{x.response.body.$.a}}\n", "is not known"),
    ],
)
def test_a_malformed_file_is_reported(tmp_path: Path, text: str, words: str):
    status, output = carried_out(tmp_path, text)
    assert status == 2
    assert words in output


def test_a_header_with_a_control_character_is_the_files_fault(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        status, output = carried_out(tmp_path, f"### Control\nGET {url}\nX: a\x00b\n")
    assert status == 2
    assert "Control: no request of HTTP" in output


def test_an_answer_is_referred_to_by_path_and_header(folder: Path):
    url = read_values(folder / ENVIRONMENT)["url"]
    text = (
        "### Where\n# @name here\nGET {{url}}/.well-known/openid-configuration\n\n"
        "### A list\nGET {{here.response.body.$.jwks_uri}}?{{here.response.headers.content-type}}"
        "&{{here.response.body.grant_types_supported[0]}}\n"
    )
    first, second = run(text, {"url": url})
    assert first.ok
    assert second.ok
    bad = text.replace("jwks_uri", "nothing")
    with pytest.raises(RequestsError, match="no such member"):
        list(run(bad, {"url": url}))


def test_a_parsed_request_equals_its_text():
    (request,) = parse(
        "# a file\n@x = 1\n### Title\n# @name one\n// @expect 201\nPUT {{url}}/a HTTP/1.1\n"
        "A: b: c\nContent-Type: x\n\n{\n\n  1}\n\n"
    )
    assert (request.title, request.name, request.expect) == ("Title", "one", 201)
    assert (request.method, request.url) == ("PUT", "{{url}}/a")
    assert request.headers == (("A", "b: c"), ("Content-Type", "x"))
    assert request.body == "{\n\n  1}"
    assert not Outcome(request, 200, "").ok
