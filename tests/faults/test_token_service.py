"""The token fails: it is lost, damaged, full, killed, or its PIN is another one now.

Always: a clear error, and the contracts that were there still sign.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import envelopes
from evcc import p256
from evcc.vault import PROVISIONING, VaultError
from fixtures.disks import fill, object_files, overlooked, read_only, token_folder
from fixtures.tokens import CarToken, restarts
from plugvault.tokens import probes, subprocess_probe
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from plugvault.vault_service.service import VaultService

pytestmark = pytest.mark.usefixtures("patient")
DIGEST = bytes(range(32))


def envelope(vault) -> dict:
    return envelopes.envelope(vault.public(PROVISIONING), envelopes.KNOWN_KEY)


def signs(vault, key: bytes, public: bytes) -> bool:
    return p256.verify(public, DIGEST, vault.sign(key, DIGEST))


def eventually(vault, operation):
    """The operation's result, once the service is back."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return operation(vault)
        except VaultError as error:
            passes = error.reason in ("unavailable", "token-missing")
            if not passes or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def damage(file: Path) -> None:
    """The length of CKA_LABEL in an object file becomes huge: SoftHSM ends its process on it."""
    data = file.read_bytes()
    label = b"".join(n.to_bytes(8, "big") for n in (3, 3))  # CKA_LABEL, of the kind "bytes"
    assert label in data
    at = data.index(label) + len(label)
    file.write_bytes(data[:at] + b"\x7f" + b"\xff" * 7 + data[at + 8 :])


def test_wrong_pin_is_one_clear_error_and_is_not_tried_again(car_token: CarToken) -> None:
    socket = car_token.folder / "run" / "v.sock"
    service = VaultService(replace(car_token.configuration(), pin="wrong-pin"), socket)
    started: list[int] = []
    popen = subprocess.Popen

    class Counting(popen):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            started.append(self.pid)

    subprocess.Popen = Counting
    try:
        with pytest.raises(VaultError, match=r"^pin") as caught, service:
            pass
    finally:
        subprocess.Popen = popen
    assert len(started) == 1
    assert "wrong-pin" not in str(caught.value)
    assert not socket.exists()


def test_pin_changed_outside_ends_the_service_for_good(car_token: CarToken) -> None:
    change = (
        "import sys, pkcs11\n"
        "old, new = sys.stdin.read().split()\n"
        "token = pkcs11.lib(sys.argv[1]).get_token(token_label='car')\n"
        "token.open(rw=True, user_pin=old).set_pin(old, new)\n"
    )
    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        subprocess.run(
            [sys.executable, "-c", change, car_token.module],
            input=f"{car_token.pin} another-pin",
            env={**os.environ, **car_token.store.env()},
            text=True,
            check=True,
        )
        os.kill(service.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while service.failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert service.failure is not None
        assert service.failure.reason == "pin"
        assert service.restarts == 0
        for _ in range(2):
            with pytest.raises(VaultError, match=r"^pin"):  # every client gets the reason
                vault.sign(PROVISIONING, DIGEST)
        assert service.failure is not None


def test_missing_token_is_named_and_never_made(car_token: CarToken) -> None:
    shutil.rmtree(token_folder(car_token))
    with pytest.raises(VaultError, match="token-missing"), car_token.service():
        pass
    with pytest.raises(VaultError, match="token-missing"):
        car_token.open()
    assert list(car_token.store.tokens.iterdir()) == []


def test_missing_module_is_named(car_token: CarToken) -> None:
    socket = car_token.folder / "run" / "v.sock"
    location = TokenLocation(Path("/no/such/module.so"), "car", car_token.conf)
    none = VaultService(TokenConfiguration(location, car_token.pin), socket)
    with pytest.raises(VaultError, match="module-missing"), none:
        pass


def test_missing_token_is_named_and_works_again_when_it_is_back(car_token: CarToken) -> None:
    """Without help: the library alone would go on denying the key."""
    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        key = vault.open_contract_key(*case.values())
        home = token_folder(car_token)
        second_key = vault.open_contract_key(*case.values())
        before = vault.keys()
        asks = (vault.keys, lambda: vault.sign(key, DIGEST), lambda: vault.delete(second_key))
        for ask in asks:
            vault.public(second_key)
            away = home.rename(car_token.folder / "away")
            for _ in range(2):
                with pytest.raises(VaultError, match=r"^token-missing"):
                    ask()
            away.rename(home)
            assert eventually(vault, lambda v: signs(v, key, case["public"]))
            assert sorted(vault.keys()) == sorted(before)
        assert service.failure is None


def test_clients_that_ask_while_the_token_is_away_are_all_answered_when_it_is_back(
    car_token: CarToken,
) -> None:
    """Clients with a request that waited when the process gave up are answered too."""
    with car_token.service() as service:
        point = service.client().generate_provisioning_key()
        home = token_folder(car_token)
        signed: list[bool] = []
        stop = threading.Event()

        def work() -> None:
            vault = service.client()
            while not stop.is_set():
                eventually(vault, lambda v: signs(v, PROVISIONING, point))
            signed.append(eventually(vault, lambda v: signs(v, PROVISIONING, point)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            away = home.rename(car_token.folder / "away")
            with pytest.raises(VaultError, match=r"^token-missing"):
                service.client().keys()
            away.rename(home)
            eventually(service.client(), lambda v: v.public(PROVISIONING))
        stop.set()
        for thread in threads:
            thread.join()
        assert signed == [True] * 4
        assert service.failure is None


def test_key_another_process_deleted_is_not_found(car_token: CarToken) -> None:
    """Two processes on one token: a change by the other is no fault of the library."""
    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        keys = [vault.open_contract_key(*case.values()) for _ in range(3)]
        for key in keys:
            vault.sign(key, DIGEST)
        second_vault = car_token.open()
        new = second_vault.open_contract_key(*case.values())
        for key in keys[:2]:
            second_vault.delete(key)
        second_vault.close()
        with pytest.raises(VaultError, match=r"^not-found"):
            vault.sign(keys[0], DIGEST)
        assert set(dict(vault.keys())) == {PROVISIONING, keys[2], new}
        assert signs(vault, new, case["public"])


def is_taken(vault: Any) -> bool:
    with pytest.raises(VaultError, match="exists"):
        vault.generate_provisioning_key()
    return True


@pytest.mark.parametrize(
    "sees",
    [
        lambda vault: PROVISIONING in dict(vault.keys()),
        lambda vault: len(vault.public(PROVISIONING)) == 65,
        lambda vault: len(vault.sign(PROVISIONING, DIGEST)) == 64,
        is_taken,
        lambda vault: vault.delete(PROVISIONING) is None,
    ],
    ids=["keys", "public", "sign", "generate", "delete"],
)
def test_key_softhsm_overlooked_is_there(car_token: CarToken, sees: Any) -> None:
    with car_token.service() as service, closing(car_token.open()) as vault:
        with overlooked(car_token):
            service.client().generate_provisioning_key()
        assert sees(vault)


def test_provisioning_key_another_process_made_anew_is_listed(car_token: CarToken) -> None:
    with car_token.service() as service, closing(car_token.open()) as vault:
        client = service.client()
        first = client.generate_provisioning_key()
        assert vault.public(PROVISIONING) == first
        location, pin = car_token.location, car_token.pin
        assert subprocess_probe.run(probes.destroy_keys, location=location, pin=pin) == 1
        assert client.keys() == []
        second = client.generate_provisioning_key()
        assert dict(vault.keys()) == {PROVISIONING: second} != {PROVISIONING: first}
        assert signs(vault, PROVISIONING, second)


def test_key_of_a_role_softhsm_overlooked_is_there(car_token: CarToken) -> None:
    from plugvault.tokens import Hsm

    with car_token.service() as service, Hsm(car_token.module, car_token.conf) as hsm:
        token = hsm.token("car", car_token.pin)
        with overlooked(car_token):
            point = service.client().generate_provisioning_key()
        assert token.key(PROVISIONING.decode()).point == point


def test_two_services_on_one_token(car_token: CarToken) -> None:
    with car_token.service() as first_service:
        first_service.client().generate_provisioning_key()
        socket = car_token.folder / "run" / "other.sock"
        with VaultService(car_token.configuration(), socket, 1e6) as second_service:
            case = envelope(first_service.client())
            opened: list[bytes] = []

            def work(vault: Any) -> None:
                for _ in range(10):
                    key = vault.open_contract_key(*case.values())
                    assert signs(vault, key, case["public"])
                    opened.append(key)

            threads = [
                threading.Thread(target=work, args=(s.client(),))
                for s in (first_service, second_service)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(opened) == 20
            for vault in (first_service.client(), second_service.client()):
                assert set(dict(vault.keys())) == {PROVISIONING, *opened}
            assert (first_service.failure, second_service.failure) == (None, None)


def test_second_service_does_not_take_the_socket_of_the_first(car_token: CarToken) -> None:
    with car_token.service() as service:
        with pytest.raises(VaultError, match="another service listens"), car_token.service():
            pass
        assert len(service.client().random(8)) == 8


def test_file_that_crashes_the_process_costs_one_key_and_is_put_aside(car_token: CarToken) -> None:
    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        intact_key = vault.open_contract_key(*case.values())
        before = set(object_files(car_token))
        key = vault.open_contract_key(*case.values())
        new = sorted(set(object_files(car_token)) - before)[0]
        file = token_folder(car_token) / new
        damage(file)
        damaged = file.read_bytes()
        os.kill(service.pid, signal.SIGKILL)
        assert eventually(vault, lambda v: signs(v, intact_key, case["public"]))
        with pytest.raises(VaultError, match="not-found"):
            vault.sign(key, DIGEST)
        assert dict(vault.keys())[key] == b""
        assert file.with_suffix(".damaged").read_bytes() == damaged


@pytest.mark.parametrize("length", [0, 100])
def test_service_killed_at_its_login_comes_back(car_token: CarToken, length: int) -> None:
    """SoftHSM rewrites `token.object` then; empty or cut off it hides the token and every key."""
    with car_token.service() as service:
        vault = service.client()
        point = vault.generate_provisioning_key()
        os.truncate(token_folder(car_token) / "token.object", length)
        os.kill(service.pid, signal.SIGKILL)
        assert vault.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST))
        assert restarts(service, 1) == 1


def test_service_is_started_again_after_a_failed_start_of_its_process(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    with car_token.service() as service:
        start, failures = service._process._spawn, [2]

        def short() -> Any:
            if failures[0]:
                failures[0] -= 1
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return start()

        monkeypatch.setattr(service._process, "_spawn", short)
        os.kill(service.pid, signal.SIGKILL)
        assert eventually(service.client(), lambda vault: vault.random(8))
        assert (failures, service.failure) == ([0], None)


def test_damaged_key_is_unavailable_and_no_reason_to_start_again(car_token: CarToken) -> None:
    """Its file is cut: it is listed and does not sign. The other keys go on."""
    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        intact = vault.open_contract_key(*case.values())
        before = set(object_files(car_token))
        torn = vault.open_contract_key(*case.values())
        new = set(object_files(car_token)) - before
        file = max(
            (token_folder(car_token) / name for name in new), key=lambda f: f.stat().st_size
        )
        content = file.read_bytes()
    for length in range(len(content) - 1, 0, -7):
        file.write_bytes(content[:length])
        vault = car_token.open()
        try:
            vault.sign(torn, DIGEST)
        except VaultError as error:
            if error.reason == "unavailable":
                break
        finally:
            vault.close()
    else:
        pytest.skip("no length at which this SoftHSM lists the key and does not sign")
    with car_token.service() as service:
        vault, first = service.client(), service.pid
        for _ in range(3):
            with pytest.raises(VaultError, match=r"^unavailable"):
                vault.sign(torn, DIGEST)
            assert signs(vault, intact, case["public"])
        assert service.pid == first


def test_call_that_does_not_come_back_ends_the_process(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a card that was pulled. A pipe in place of a file: SoftHSM waits for its writer."""
    code = car_token.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(
        "import signal; alarm = signal.alarm; signal.alarm = lambda n: alarm(min(n, 3))"
    )
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    with car_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        key = vault.open_contract_key(*case.values())
        first, file = service.pid, token_folder(car_token) / "generation"
        data = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(VaultError, match=r"^unavailable"):
            vault.open_contract_key(*case.values())
        file.unlink()
        file.write_bytes(data)
        assert eventually(vault, lambda v: signs(v, key, case["public"]))
        assert restarts(service, 1) >= 1
        assert service.pid != first


def test_weak_token_is_refused_before_the_first_request(car_token: CarToken) -> None:
    strict = car_token.service(minimum_custody="L3")
    with pytest.raises(VaultError, match=r"^custody: .*L3"), strict:
        pass
    with car_token.service(minimum_custody="L1+") as service:
        assert len(service.client().random(8)) == 8


def test_read_only_token_signs_and_reports_why_it_takes_no_key(each_token: CarToken) -> None:
    with each_token.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        key = vault.open_contract_key(*case.values())
        keys = {PROVISIONING, key}
        with read_only(each_token.folder / "hsm"):
            with pytest.raises(VaultError, match=r"^full: .*(read-only|WriteProtected)"):
                vault.open_contract_key(*case.values())
            assert signs(vault, key, case["public"])
            assert set(dict(vault.keys())) == keys
        keys.add(vault.open_contract_key(*case.values()))
        assert set(dict(vault.keys())) == keys
        assert service.restarts == 0


def test_full_disk_keeps_old_contracts_and_leaves_nothing_half_made(small_disk: CarToken) -> None:
    with small_disk.service() as service:
        vault = service.client()
        vault.generate_provisioning_key()
        case = envelope(vault)
        old = vault.open_contract_key(*case.values())
        before = object_files(small_disk)
        filler = fill(small_disk.folder)
        for _ in range(3):
            with pytest.raises(VaultError, match=r"^full"):
                vault.open_contract_key(*case.values())
        assert object_files(small_disk) == before
        assert signs(vault, old, case["public"])
        filler.unlink()
        new = vault.open_contract_key(*case.values())
        assert signs(vault, new, case["public"])
        assert set(dict(vault.keys())) == {PROVISIONING, old, new}


def test_full_disk_is_no_place_for_a_role_key_or_a_token(small_disk: CarToken) -> None:
    from plugvault.tokens import Hsm

    with Hsm(small_disk.module, small_disk.conf) as hsm:
        token = hsm.token(small_disk.label, small_disk.pin)
        point = token.generate("old").point
        fill(small_disk.folder)
        with pytest.raises(VaultError, match=r"^full"):
            token.generate("new")
        with pytest.raises(VaultError, match="not-found"):
            token.key("new")
        assert p256.verify(point, DIGEST, token.key("old").sign_digest(DIGEST))
        with pytest.raises(VaultError, match=r"^full"):
            small_disk.add("another")
