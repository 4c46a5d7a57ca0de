"""A start with a clock years ahead and the starts after it; a process that starts again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from evcc.check_digit import emaid_check_digit
from fixtures.backend import Vehicle
from fixtures.sandbox import Running
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.ecosystem import Ecosystem
from plugvault.pki import path
from plugvault.pki.names import timestamp

YEAR = 365 * 86_400
PCID = "PVTP0891448460942"


def works(folder: Path, module: Path, now: float) -> None:
    """Start an ecosystem at this time: a vehicle is certified and gets a contract."""
    with Ecosystem(folder, module, clock=lambda: now) as world:
        for certificate in map(path.read_any, certificates(world)):
            assert certificate.not_before <= now <= certificate.not_after
        leaf, subs = world.oem.enrol(Vehicle(PCID).csr())
        world.oem.register(leaf, subs, [world.v2g_root])
        emaid = world.mo.contract(PCID)
        assert world.oem.pull(emaid, PCID).emaid == emaid


def certificates(world: Ecosystem) -> list[bytes]:
    leaves = (world.cps, world.station)
    return [
        *(der for leaf in leaves for der in (leaf.certificate, *leaf.subs)),
        *(world.v2g_root, world.oem_root, world.mo_root),
    ]


def test_a_folder_works_after_a_start_with_the_clock_ahead(softhsm: Path, tmp_path: Path):
    """The certificates that were issued anew then are not valid yet, and are issued again."""
    now = time.time()
    for at in (now, now + 2 * YEAR, now):
        works(tmp_path / "world", softhsm, at)


def test_a_folder_that_was_made_with_the_clock_ahead_works(softhsm: Path, tmp_path: Path):
    """Its roots too are not valid yet."""
    now = time.time()
    for at in (now + 2 * YEAR, now):
        works(tmp_path / "world", softhsm, at)


# Python's own hook: every process of the sandbox has this clock.
CLOCK = """
import os, time
real = time.time
def shifted():
    with open(os.environ["PLUGVAULT_TEST_CLOCK"]) as file:
        return real() + float(file.read())
time.time = shifted
"""


def restart(sandbox: Running) -> str:
    """Kill the sandbox's processes; its log until they are there again."""
    victims, log = sandbox.children(), ""
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert sandbox.process.stderr
    while log.count("is there again") < len(victims):
        line = sandbox.process.stderr.readline().decode()
        assert line, log
        log += line
    return log


def contract(sandbox: Running, number: int) -> int:
    """The status of a new contract's request."""
    emaid = f"DEPVBC1234567{number}"
    order = {
        "contractBegins": timestamp(time.time() - 3600),
        "contractEnds": timestamp(time.time() + 86_400),
        "emaid": emaid + emaid_check_digit(emaid),
        "pcid": sandbox.said["vehicles"][1]["pcid"],
        "xsdMsgDefNamespace": ISO2,
    }
    bearer = sandbox.bearer("MO_HUBJECT_PKI")
    path_ = "/v1/cps/generate/signedContractData"
    return sandbox.http.put(path_, json=order, headers=bearer).status_code


def test_a_process_that_starts_again_with_a_wrong_clock_issues_nothing_and_says_so(
    softhsm: Path, tmp_path: Path
):
    """As soon as the clock is right it works, without another start."""
    clock, folder = tmp_path / "clock", tmp_path / "data"
    clock.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    sandbox = Running(
        *("--port", "0", "--data", str(folder)),
        PYTHONPATH=str(tmp_path),
        PLUGVAULT_TEST_CLOCK=str(clock),
        PLUGVAULT_PKCS11_MODULE=str(softhsm),
    )
    try:
        before = {file: file.read_bytes() for file in (folder / "certificates").iterdir()}
        for number, ahead in enumerate((2 * YEAR, -2 * YEAR)):
            clock.write_text(str(ahead))
            log = restart(sandbox)
            assert "these certificates are not valid" in log
            assert "cps-leaf" in log
            clock.write_text("0")
            assert contract(sandbox, number) == 201
            after = {file: file.read_bytes() for file in (folder / "certificates").iterdir()}
            assert after == before
    finally:
        sandbox.end()
