"""The ends of a vault service: no request under way is lost, and nothing is left open."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evcc.vault import PROVISIONING, VaultError
from fixtures.open_files import open_files
from fixtures.tokens import CarToken
from plugvault.vault_service import server as serving

DIGEST = bytes(range(32))
SLOW = """
import os, sys, time
if "plugvault.vault_service.server" in sys.orig_argv:
    from pathlib import Path
    from plugvault.vault_service.handlers import RequestHandler

    sign = RequestHandler._sign
    under_way, go_on = Path(os.environ["UNDER_WAY"]), Path(os.environ["GO_ON"])

    def slow(*arguments):
        under_way.touch()
        while not go_on.exists():
            time.sleep(0.005)
        return sign(*arguments)

    RequestHandler._sign = slow
"""


def until(true: Any) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_stopped_service_answers_the_request_under_way_first(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = car_token.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(SLOW)
    under_way, go_on = car_token.folder / "under-way", car_token.folder / "go-on"
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    monkeypatch.setenv("UNDER_WAY", str(under_way))
    monkeypatch.setenv("GO_ON", str(go_on))
    results: list[object] = []

    def sign() -> None:
        try:
            results.append(len(vault.sign(PROVISIONING, DIGEST)))
        except VaultError as error:
            results.append(str(error))

    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        process = service._process._process
        asking = threading.Thread(target=sign)
        asking.start()
        until(under_way.exists)

        def go() -> None:
            until(lambda: process.stdin is None or process.stdin.closed)
            go_on.touch()

        going = threading.Thread(target=go)
        going.start()
    asking.join()
    going.join()
    assert results == [64]
    assert process.returncode == 0


def test_no_descriptor_and_no_listener_is_left_after_a_service(car_token: CarToken) -> None:
    before, threads = open_files(), threading.active_count()
    with car_token.service(tcp=("127.0.0.1", 0)) as service:
        address, path = service.address, str(service.socket_path)
        client = service.client()
        client.random(1)
        client.close()
        os.kill(service.pid, 9)
        service.client().random(1)
    assert open_files() <= before
    assert threading.active_count() == threads
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address):
        pass
    assert not Path(path).exists()


def test_nothing_is_open_after_a_service_that_could_not_start(car_token: CarToken) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        before = open_files()
        for more in ({"tcp": port.getsockname()}, {"minimum_custody": "L3"}):
            with pytest.raises(VaultError), car_token.service(**more):
                pass
            assert not list((car_token.folder / "run").iterdir())
        assert open_files() <= before


@pytest.mark.parametrize("orders", [b"", b'{"open": {"pin": "1234'], ids=["none", "cut off"])
def test_service_without_orders_ends_silently(orders: bytes) -> None:
    """The supervisor died before or while it sent the orders."""
    ended = subprocess.run(
        [sys.executable, "-m", "plugvault.vault_service.server"],
        input=orders,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, b"", b"")


def test_service_with_endless_orders_ends() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as out:
        filling = threading.Thread(target=out.write, args=(b" " * (serving._LONGEST + 1),))
        filling.start()
        with pytest.raises(SystemExit) as caught:
            serving._orders(reader)
        os.read(reader, 1)
        filling.join()
    assert caught.value.code == 1


@pytest.mark.parametrize("broken", [False, True], ids=["read", "not JSON"])
def test_lines_with_the_pin_are_wiped_once_they_are_read(
    monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """And the PIN was in nothing that JSON made a text of."""
    buffers: list[bytearray] = []
    readv = os.readv

    def watched(descriptor: int, into: list[memoryview]) -> int:
        buffers.append(into[0].obj)  # type: ignore[arg-type]
        return readv(descriptor, into)

    monkeypatch.setattr(os, "readv", watched)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as out:
        out.write(b'{"state": null' + b"}" * (not broken) + b"\n1234-the-pin\n")
        out.flush()
        if broken:
            with pytest.raises(ValueError, match="delimiter"):
                serving._orders(reader)
        else:
            assert serving._orders(reader) == ({"state": None}, bytearray(b"1234-the-pin"))
    assert {len(set(buffer)) for buffer in buffers} == {1}
    assert not any(buffers[0])
