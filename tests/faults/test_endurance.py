"""Installation after installation: no more objects, files, memory or time than for the first.

SoftHSM itself keeps some memory of each token object that was ever made in a process (bare
C_CreateObject and C_DestroyObject show it): that is allowed for, and no more. The service starts a
new process before it is much. NSS takes some memory once, for its database. The unit of time is
the time of making a contract, which alternates with it: other load of the machine affects both.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import envelopes
from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, install
from evcc.ports.files import Files
from evcc.trust import Trust
from fixtures.cars import STORED
from fixtures.tokens import CarToken
from grounds import objects
from oracle import Forgetful
from plugvault import runtimes
from plugvault.vault_service.envelopes import ROOM
from plugvault.vault_service.handlers import _FRESH_AFTER
from world import NOW, SESSION_ID, World

WARM = 40  # installations before anything is measured
PAGE = os.sysconf("SC_PAGE_SIZE")
MAY_GROW = 8 << 20  # bytes, for any number of installations
MAY_KEEP = {"softhsm": 3 << 10, "nss": 0}  # bytes of each, by the library
MAY_SLOW = 1.5  # times, from the first hundreds to the last


class Holder:
    """A vault, and the process that has the token, which the service replaces now and then."""

    def __init__(self, vault: Any, pid: Callable[[], int], lasts: int, room: int) -> None:
        self.vault, self._pid = vault, pid
        self.lasts = lasts  # installations, until it is another one
        self.room = room  # installations with one provisioning key

    def resident(self) -> int:
        gc.collect()
        return self._read(lambda process: int((process / "statm").read_text().split()[1]) * PAGE)

    def open_files(self) -> int:
        """Others' among them, in process: those come and go while it is measured."""
        gc.collect()
        return self._read(lambda process: len(list((process / "fd").iterdir())))

    def _read(self, count_of: Callable[[Path], int]) -> int:
        deadline = time.monotonic() + 10
        while True:
            try:
                self.vault.random(1)  # there is one
                return count_of(Path(f"/proc/{self._pid()}"))
            except FileNotFoundError:
                assert time.monotonic() < deadline


@pytest.fixture(params=["in process", "service"])
def holder(request: pytest.FixtureRequest, each_token: CarToken) -> Iterator[Holder]:
    if request.param == "service":
        with each_token.service() as service:
            yield Holder(service.client(), lambda: service.pid, _FRESH_AFTER, ROOM)
        return
    vault = each_token.open()
    yield Holder(vault, os.getpid, 1_000_000, 1_000_000)
    vault.close()


def files(folder: Path) -> int:
    return sum(path_.is_file() for path_ in folder.rglob("*"))


def test_installations_in_a_row_keep_files_keys_and_memory_bounded(
    holder: Holder, each_token: CarToken, world: World, whole: bool
) -> None:
    vault = holder.vault
    point = vault.generate_provisioning_key()
    store = Files(str(each_token.folder / "store"))
    trust, contracts = Trust(store, vault.verify), Contracts(store)
    trust.install("EU", world.anchors, NOW)
    contracts.envelopes = Forgetful()  # in its life a car opens fewer than these

    def renew(n: int) -> float:
        """Return its duration in units of the time of issuing a contract."""
        start = time.perf_counter()
        contract = world.new_contract(STORED, not_before=NOW - 100_000 + n)
        response = world.response(point, contract=contract)
        issued = time.perf_counter()
        install(response, InstallationRequest(SESSION_ID), trust, contracts, vault, NOW)
        return (time.perf_counter() - issued) / (issued - start)

    def counted() -> list[int]:
        return [
            len(vault.keys()),
            objects(vault),
            files(each_token.folder),
            len(store.read("contracts") or b""),
        ]

    for n in range(WARM):
        renew(n)
    before, opened, memory = counted(), holder.open_files(), holder.resident()
    count = min(10_000, holder.room - WARM) if whole else 20
    times = [renew(WARM + n) for n in range(count)]
    assert counted() == before
    assert holder.open_files() - opened < count // 2  # one that each leaves open would be `count`
    grown = holder.resident() - memory
    assert grown < MAY_GROW + min(count, holder.lasts) * MAY_KEEP[each_token.provider.name]
    if whole:
        first, last = (sorted(part)[250] for part in (times[:500], times[-500:]))
        assert last < first * MAY_SLOW
        print(f"{count} installations: {grown >> 10} KiB more, {last / first:.2f} times as long")
    assert Contracts(store).recover(vault) == []


def test_openings_in_a_row_on_micropython_keep_heap_and_keys_bounded(
    each_token: CarToken, whole: bool
) -> None:
    """The vault that is reached by ffi: neither its heap nor the token holds more afterwards."""
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    location, count = each_token.location, 10_000 if whole else 50
    vault = each_token.open()
    case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
    vault.close()
    file = each_token.folder / "case.json"
    file.write_text(json.dumps(case, default=bytes.hex))
    both = Path(__file__).parents[1] / "both"
    arguments = [str(count), str(file), str(location.module), location.label, location.options]
    ended = subprocess.run(
        [*runtime.argv, *runtime.heap("2M"), str(both / "endurance_run.py"), *arguments],
        env={**runtime.env(both), **location.env()},
        input=each_token.pin + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (heap, memory, key_count), (heap_after, memory_after, held_after) = json.loads(ended.stdout)
    assert held_after == key_count == 2
    assert heap_after - heap < 4096
    assert memory_after - memory < MAY_GROW + count * MAY_KEEP[each_token.provider.name]
    print(f"{count} openings: {heap_after - heap} bytes more of its heap")
