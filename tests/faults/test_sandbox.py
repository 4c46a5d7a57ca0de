"""The sandbox when its processes are killed: what was acknowledged is there, and it answers on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from evcc.check_digit import emaid_check_digit
from fixtures.receiver import Receiver
from fixtures.sandbox import Running, alive, children, eventually
from fixtures.store import cluster
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki.names import timestamp


def enter(sandbox: Running, admin: dict[str, str], provider: str) -> bool:
    """A write; whether it was acknowledged."""
    body = {"name": f"Company {provider}", "registry": "test"}
    try:
        answer = sandbox.http.put(f"/v1/registry/providers/{provider}", json=body, headers=admin)
    except httpx.HTTPError:
        return False  # killed in the middle: the write was not acknowledged
    assert answer.status_code == 200, answer.text
    return True


def test_killed_processes_lose_no_acknowledged_write_and_come_again(sandbox: Running):
    admin = sandbox.bearer("ADMIN")
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(letter: str) -> None:
        for number in range(1000):
            provider = (
                f"ZZ{letter}{number // 36:X}"[:4]
                + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 36]
            )
            if stop.is_set() or number >= 36 * 16:
                return
            if enter(sandbox, admin, provider):
                acknowledged.append(provider)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "AB"]
    for writer in writers:
        writer.start()
    killed: set[int] = set()
    for _ in range(3):
        had = len(acknowledged)
        eventually(lambda had=had: len(acknowledged) > had + 5 or not any_alive(writers))
        victims = sandbox.children()
        killed.update(victims)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: sandbox.http.get("/").status_code == 200)
    stop.set()
    for writer in writers:
        writer.join(60)
    assert len(acknowledged) > 15
    listed = sandbox.http.get("/v1/registry/providers", headers=admin).json()["providers"]
    assert {entry["provider"] for entry in listed} >= set(acknowledged)
    running = eventually(lambda: len(sandbox.children()) >= 2 and sandbox.children())
    assert not killed & set(running)
    told: list[dict[str, Any]] = [sandbox.event() for _ in killed]
    assert {event["pid"] for event in told if event["event"] == "ended"} <= killed
    assert {event["work"] for event in told} <= {"answer", "deliver"}
    assert max(event["restarts"] for event in told) >= 1


def test_loops_that_fail_inside_a_process_are_told_and_so_is_their_end(softhsm: Path):
    with cluster() as own:
        options = ("--port", "0", "--database", own.create())
        running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))

        def until_event(name: str) -> dict[str, Any]:
            while (event := running.event())["loop"] != "deliveries" or event["event"] != name:
                pass
            return event

        try:
            own.stop()
            failing = until_event("failing")
            own.start()
            works = until_event("works")
        finally:
            running.end()
    assert (failing["work"], failing["restarts"]) == ("deliver", 0)
    assert "database" in failing["text"]
    assert works == {**failing, "event": "works", "text": ""}


def any_alive(threads: list[threading.Thread]) -> bool:
    return any(thread.is_alive() for thread in threads)


def test_one_process_answers_while_the_other_is_dead(sandbox: Running):
    """Stopped rather than killed, so that it cannot come again meanwhile."""
    admin = sandbox.bearer("ADMIN")
    for pid in eventually(lambda: len(sandbox.children()) >= 2 and sandbox.children()):
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: fresh(sandbox, admin))
        finally:
            os.kill(pid, signal.SIGCONT)


def fresh(sandbox: Running, headers: dict[str, str]) -> bool:
    """Ask on a new connection, which any free process accepts."""
    at = sandbox.said["url"]
    with httpx.Client(base_url=at, trust_env=False, timeout=2) as http:
        return http.get("/v1/root/rootCerts", headers=headers).status_code == 200


def test_ctrl_c_ends_every_process_and_leaves_no_folder(tmp_path: Path, softhsm: Path):
    running = Running("--port", "0", TMPDIR=str(tmp_path), PLUGVAULT_PKCS11_MODULE=str(softhsm))
    pids = running.children()
    assert pids
    assert any(tmp_path.iterdir())
    assert running.end(signal.SIGINT) == 130
    assert not any(alive(pid) for pid in pids)
    assert not any(tmp_path.iterdir())


def test_a_webhook_is_called_although_every_process_was_killed(softhsm: Path, receiver: Receiver):
    """A delivery that died with its process is repeated after `worker.LEASE`."""
    options = ("--port", "0", "--allow-network", "127.0.0.0/8")
    running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))
    try:
        maker, operator = running.bearer("OEM"), running.bearer("MO_HUBJECT_PKI")
        webhook = {"url": receiver.url, "enabledEvents": ["oem.contract.created"]}
        created = running.http.post("/v1/webhook/endpoints", json=webhook, headers=maker)
        assert created.status_code == 201, created.text
        pcid, emaid = running.said["vehicles"][1]["pcid"], "DEPVBC12345678"
        emaid += emaid_check_digit(emaid)
        order = {
            "contractBegins": timestamp(time.time() - 3600),
            "contractEnds": timestamp(time.time() + 86_400),
            "emaid": emaid,
            "pcid": pcid,
            "xsdMsgDefNamespace": ISO2,
        }
        put = running.http.put("/v1/cps/generate/signedContractData", json=order, headers=operator)
        assert put.status_code == 201, put.text
        for pid in running.children():
            os.kill(pid, signal.SIGKILL)
        event = eventually(lambda: receiver.events)[0]
        assert (event["eventType"], event["payload"]["emaid"]) == ("oem.contract.created", emaid)
    finally:
        running.end()


def marked(folder: Path) -> list[int]:
    """The processes of a sandbox with this mark in its environment."""
    mark, pids = f"PLUGVAULT_TEST={folder}", []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in environment.read_bytes() and alive(int(environment.parent.name)):
                pids.append(int(environment.parent.name))
    return pids


@pytest.fixture
def marking(tmp_path: Path, softhsm: Path) -> dict[str, str]:
    """The environment of sandboxes whose processes are known by it."""
    return {
        "TMPDIR": str(tmp_path),
        "PLUGVAULT_TEST": str(tmp_path),
        "PLUGVAULT_PKCS11_MODULE": str(softhsm),
    }


def begun(marking: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "plugvault.cli.app", "sandbox", "--json", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **marking},
    )


def test_a_sandbox_killed_while_its_processes_start_leaves_none(
    tmp_path: Path, marking: dict[str, str]
):
    process = begun(marking)
    eventually(lambda: len(marked(tmp_path)) > 2)
    process.kill()
    process.communicate()
    eventually(lambda: not marked(tmp_path))


def test_a_sandbox_killed_at_any_moment_of_its_start_leaves_nothing(
    tmp_path: Path, marking: dict[str, str], whole: bool
):
    """No process, on its port or elsewhere; and no folder with secrets after the next start."""
    if not whole:
        pytest.skip("a sweep of minutes: make soak")
    started = time.monotonic()
    Running("--port", "0", **marking).end(signal.SIGKILL)
    duration = time.monotonic() - started
    for point in range(40):
        process = begun(marking)
        time.sleep(point / 40 * duration)
        process.kill()
        process.communicate()
        eventually(lambda: not marked(tmp_path))
    running = Running("--port", "0", **marking)
    folders = [folder for folder in tmp_path.glob("plugvault-*") if (folder / ".owner").exists()]
    running.end()
    assert len(folders) == 1
    print(f"a sandbox killed at 40 moments of its start of {duration:.1f} s")


def test_processes_do_not_outlive_a_killed_parent(tmp_path: Path, softhsm: Path):
    running = Running("--port", "0", "--data", str(tmp_path), PLUGVAULT_PKCS11_MODULE=str(softhsm))
    pids = children(running.process.pid)
    assert pids
    running.end(signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in pids))
