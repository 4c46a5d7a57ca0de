"""A module that cannot start says why over the link, and so does a vault that refuses it."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evcc.ports.stream import of_socket
from plugvault import file_lock, runtimes
from plugvault.link.bench import Bench, BenchError
from plugvault.link.endpoint import of_connection
from plugvault.runtimes import program
from plugvault.vault_service.service import VaultService

INTERPRETERS = ("cpython", "wheel")
MAKER = "04" + "11" * 64


class Start:
    """One start of main.py, and the bench at the other end of its link."""

    def __init__(self, process: subprocess.Popen[bytes], bench: Bench) -> None:
        self.process, self.bench = process, bench

    def ended(self) -> tuple[int, str]:
        """Exit status and stderr."""
        assert self.process.stderr is not None
        output = self.process.stderr.read().decode()
        return self.process.wait(20), output


@contextlib.contextmanager
def starting(
    name: str, folder: Path, service: Path | None = None, **changes: Any
) -> Iterator[Start]:
    """Start the module with a configuration, of which `changes` replaces parts."""
    how = runtimes.get(name)
    if how is None:
        pytest.skip(f"no {name} interpreter here; `make` fetches it")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        settings = {
            "link": {"kind": "tcp", "host": host, "port": port},
            "vault": {"kind": "link"},
            "store": str(folder / "store"),
            "maker": MAKER,
        }
        config = folder / "config.json"
        config.write_text(json.dumps({**settings, **changes}))
        command = [*how.argv, str(program() / "main.py"), str(config)]
        with subprocess.Popen(command, env=how.env(program()), stderr=subprocess.PIPE) as process:
            listener.settimeout(20)
            connection = listener.accept()[0]
            with Bench(of_connection(connection), vault=service) as bench:
                yield Start(process, bench)
            process.kill()


@pytest.mark.parametrize("name", INTERPRETERS)
def test_a_wrong_configuration_is_told_over_its_link(name: str, tmp_path: Path) -> None:
    with starting(name, tmp_path, minimum="L3") as start:
        text = start.bench.wait_event("unable", timeout=20)
        assert text.startswith("start: config: ")
        assert text.endswith("minimum: unknown key")
        assert text in start.bench.log
        status, output = start.ended()
        assert status == 78
        assert "unknown key" in output


@pytest.mark.parametrize("name", INTERPRETERS)
def test_a_damaged_store_is_told_over_the_link(name: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/time").write_bytes(b"damaged")
    with starting(name, tmp_path) as start:
        text = start.bench.wait_event("unable", timeout=20)
        assert text.startswith("start: damaged: the latest time")
        assert start.ended()[0] == 1


@pytest.mark.parametrize("name", ["cpython", "debian"])
def test_a_store_that_another_module_uses_is_told_over_the_link(name: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with file_lock.locked(store), starting(name, tmp_path) as start:
        text = start.bench.wait_event("unable", timeout=20)
        assert text == f"start: unavailable: {store}: another process uses it"
        assert start.ended() == (1, f"unavailable: {store}: another process uses it\n")


def test_a_vault_that_is_not_there_is_told_at_both_ends_at_once(tmp_path: Path) -> None:
    with starting("cpython", tmp_path) as start:
        assert start.bench.wait_event("unable", timeout=20) == "vault"
        since = len(start.bench.events)
        text = start.bench.wait_event("unable", since, timeout=20)
        assert text == "start: token-missing: this bench has no vault service"
        assert "this bench has none" in start.bench.log[0]
        assert start.ended()[0] == 1


@pytest.mark.parametrize("name", INTERPRETERS)
def test_a_wrong_vault_key_is_told_at_both_ends(name: str, tmp_path: Path, car_token: Any) -> None:
    key_file = tmp_path / "key"
    key_file.touch(mode=0o600)
    key_file.write_text(secrets.token_hex(32))
    service = VaultService(car_token, tmp_path / "vault", keys={"car": secrets.token_bytes(32)})
    wrong = {"kind": "link", "name": "car", "key_file": str(key_file)}
    with service, starting(name, tmp_path, service.socket_path, vault=wrong) as start:
        assert start.ended()[0] == 1
        with pytest.raises(BenchError, match="lost"):
            start.bench.wait_event("none")
        texts = [text for name, text in start.bench.events if name == "unable" and text != "vault"]
        refusal = "refused, not sealed with the key of this connection"
        question = "is its name or its key_file another one?"
        assert texts == [f"start: unavailable: vault service: it says {refusal}: {question}"]
        assert start.bench.log[0] == (
            "bench: the vault service refuses the module: "
            "refused: not sealed with the key of this connection"
        )
        assert texts[0] in start.bench.log


def test_a_bench_whose_vault_service_is_not_there_says_so(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    with (
        far,
        pytest.raises(BenchError, match="No such file"),
        Bench(of_socket(near), vault=tmp_path / "nothing"),
    ):
        pass
