"""An operator's process is killed while it ends a contract: the next one completes the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fixtures.backend import Backend
from fixtures.fleet import until
from plugvault.roles import customers as book
from plugvault.roles.customers import Customers

# Ends a contract and stays, once the pool is about to be asked, or has done it.
ENDING = """
import json, sys, threading
from pathlib import Path
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.customers import Customers
from plugvault.roles.mo import Operator

file, url, emaid, place = sys.argv[1:]

class Stopping(Operator):
    def terminate(self, emaid):
        if place == "after":
            super().terminate(emaid)
        print(place, flush=True)
        threading.Event().wait()

client = OpcpClient(url, Credentials(**json.loads(sys.stdin.readline())))
Customers(Stopping(client, "DEPVA"), Path(file)).terminate(emaid)
"""


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_end_is_completed_after_a_kill_without_a_second_call(
    backend: Backend, tmp_path: Path, place: str
):
    vehicle, world = backend.vehicle(), backend.ecosystem
    number = vehicle.pcid[-6:]
    world.oem.enter(f"PVTZZZ8V1KA{number}", f"ON{number}", vehicle.pcid, "12345678901")
    file = tmp_path / "customers.sqlite"
    with closing(Customers(world.mo, file)) as customers:
        emaid, other = (customers.onboard("pcid", vehicle.pcid, "12345678901") for _ in range(2))
    command = [sys.executable, "-c", ENDING, str(file), world.url, emaid, place]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        credentials = vars(world.credentials("MO_EXTERNAL_PKI"))
        process.stdin.write(json.dumps(credentials) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{place}\n"
        process.send_signal(signal.SIGKILL)
    with closing(Customers(world.mo, file)) as customers:
        assert [customer.emaid for customer in customers.all(book.ENDING)] == [emaid]
        customers.follow()
        until(lambda: customers.get(emaid).state == book.ENDED, "the next process ends it")
        assert customers.get(other).state == book.SIGNED
    assert [contract["emaid"] for contract in world.oem.contracts(vehicle.pcid)] == [other]
