"""The process that has the token is killed at each point of a request: the outcome is not lost.

A client sees nothing of it: its call gives what it would have given, once. What ends the process
(SIGKILL) is a `sitecustomize` of its own, before a call of the token, after it, and when the
answer is ready and not yet sent.
"""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import envelopes
from evcc import p256
from evcc.vault import OWNER, PROVISIONING, VaultError
from fixtures.tokens import CarToken, restarts
from plugvault.vault_service.service import ServiceProcess, VaultService

pytestmark = pytest.mark.usefixtures("patient")
DIGEST = bytes(range(32))
SOAK = bool(os.environ.get("PLUGVAULT_SOAK"))
STRIDE = 1 if SOAK else 4  # of the points of a long request

KILLER = """
import os, signal, sys
if "plugvault.vault_service.server" in sys.orig_argv:
    from pathlib import Path
    from plugvault.vault_service.handlers import RequestHandler
    from plugvault.cryptoki.backend import HostBackend

    armed = Path(os.environ["PLUGVAULT_ARMED"])

    def point():
        if armed.exists():
            left = int(armed.read_text())
            if left:
                armed.write_text(str(left - 1))
            else:
                armed.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    def dangerous(call):
        def wrapped(*args, **options):
            point()
            result = call(*args, **options)
            point()
            return result
        return wrapped

    for name in dir(HostBackend):
        if not name.startswith("_"):
            setattr(HostBackend, name, dangerous(getattr(HostBackend, name)))
    RequestHandler.answer = dangerous(RequestHandler.answer)
"""


class Killed:
    """A service with a process that ends once at the `n`-th point after `arm(n)`."""

    def __init__(self, service: VaultService, armed: Path) -> None:
        self.service, self._armed = service, armed
        self.vault = service.client()

    def at(self, n: int, work: Callable[[], Any]) -> tuple[Any, bool]:
        """The result of `work`, and whether it was killed; if not, it has no `n` points."""
        self._armed.write_text(str(n))
        result = work()
        killed = not self._armed.exists()
        self._armed.unlink(missing_ok=True)
        return result, killed


@contextmanager
def started(token: CarToken, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    code, armed = token.folder / "code", token.folder / "armed"
    code.mkdir()
    (code / "sitecustomize.py").write_text(KILLER)
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    monkeypatch.setenv("PLUGVAULT_ARMED", str(armed))
    monkeypatch.setattr(ServiceProcess, "longest_delay", 0.01)
    with token.service() as service:
        yield Killed(service, armed)


@pytest.fixture
def killed(car_token: CarToken, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    with started(car_token, monkeypatch) as running:
        yield running


@pytest.fixture
def killed_each(each_token: CarToken, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    with started(each_token, monkeypatch) as running:
        yield running


def points(killed: Killed, work: Callable[[], Any], stride: int = 1) -> Iterator[Any]:
    """The results of `work`, killed at its first point, at another one, and so on to its last."""
    n = 0
    while True:
        result, was_killed = killed.at(n, work)
        yield result
        if not was_killed:
            break
        n += stride
    assert n >= 2 * stride, "no point was reached"
    assert restarts(killed.service, n // stride) == n // stride


def test_contract_key_is_opened_once(killed_each: Killed) -> None:
    killed, vault = killed_each, killed_each.vault
    case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
    old = vault.open_contract_key(*case.values())
    for key in points(killed, lambda: vault.open_contract_key(*case.values()), STRIDE):
        assert set(dict(vault.keys())) == {PROVISIONING, old, key}
        for key_ in (old, key):
            assert p256.verify(case["public"], DIGEST, vault.sign(key_, DIGEST))
        vault.delete(key)


def test_provisioning_key_is_made_once(killed: Killed) -> None:
    vault = killed.vault
    for point in points(killed, vault.generate_provisioning_key, 1 if SOAK else 3):
        assert vault.keys() == [(PROVISIONING, point)]
        assert p256.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST))
        with pytest.raises(VaultError, match=r"^exists"):
            vault.generate_provisioning_key()
        vault.claim(os.urandom(OWNER))  # another car's, which has none


def test_existing_provisioning_key_is_never_said_to_be_new(killed: Killed) -> None:
    vault = killed.vault
    point = vault.generate_provisioning_key()

    def generate() -> str:
        with pytest.raises(VaultError) as caught:
            vault.generate_provisioning_key()
        return caught.value.reason

    for reason in points(killed, generate):
        assert reason == "exists"
        assert vault.public(PROVISIONING) == point


def test_key_is_deleted(killed: Killed) -> None:
    vault = killed.vault
    case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)

    key = vault.open_contract_key(*case.values())
    n = 0
    while killed.at(n, functools.partial(vault.delete, key))[1]:
        assert set(dict(vault.keys())) == {PROVISIONING}
        with pytest.raises(VaultError, match=r"^not-found"):
            vault.delete(key)
        key = vault.open_contract_key(*case.values())
        n += 1
    assert n > 5


def test_operations_without_effect_are_repeated(killed: Killed) -> None:
    vault = killed.vault
    point = vault.generate_provisioning_key()
    operations: dict[str, Callable[[], bool]] = {
        "sign": lambda: p256.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST)),
        "public": lambda: vault.public(PROVISIONING) == point,
        "keys": lambda: vault.keys() == [(PROVISIONING, point)],
        "custody": lambda: vault.custody(PROVISIONING) == "L3",
        "random": lambda: len(vault.random(7)) == 7,
        "verify": lambda: vault.verify(point, DIGEST, bytes(64)) is False,
    }
    for name, right in operations.items():
        n = 0
        while True:
            result, was_killed = killed.at(n, right)
            assert result, (name, n)
            if not was_killed:
                break
            n += 1 if SOAK else 2
        assert n, name


@pytest.mark.parametrize("seed", range(40 if SOAK else 4))
def test_killed_at_any_time_every_answer_is_true(car_token: CarToken, seed: int) -> None:
    """In the middle of a call as well: SoftHSM is writing a key then, and leaves half of it."""
    with car_token.service() as service:
        vault = service.client()
        case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
        old = vault.open_contract_key(*case.values())
        opened: list[bytes] = []
        stop = threading.Event()

        def install() -> None:
            mine = service.client()
            while not stop.is_set():
                opened.append(mine.open_contract_key(*case.values()))
                if len(opened) > 3:
                    mine.delete(opened.pop(0))

        thread = threading.Thread(target=install)
        thread.start()
        for _ in range(5):
            before = service.restarts
            time.sleep(0.013 * (seed % 10) + 0.0017 * seed)
            os.kill(service.pid, 9)
            deadline = time.monotonic() + 15
            while service.restarts == before and time.monotonic() < deadline:
                time.sleep(0.01)
            vault.random(1)
        stop.set()
        thread.join()
        keys = set(dict(vault.keys())) - {b""}  # a torn object of no name: the start removes it
        assert keys == {PROVISIONING, old, *opened}
        for key in (old, *opened):
            assert p256.verify(case["public"], DIGEST, vault.sign(key, DIGEST))
