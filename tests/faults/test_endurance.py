"""Installation after installation: no more objects, files, memory or time than for the first.

Of memory the libraries themselves keep something of each token object that was ever made in a
process (bare C_CreateObject and C_DestroyObject show it): that is allowed for, and no more. The
service starts a fresh process before it is much.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evcc.contracts import RETIRED, Contracts
from evcc.installation import Request, install
from evcc.ports.files import Files
from evcc.trust import Trust
from fixtures.cars import STORED
from fixtures.tokens import CarToken
from grounds import objects
from world import NOW, SESSION_ID, World

WARM = RETIRED + 8  # installations before anything is measured: what is remembered is full then
PAGE = os.sysconf("SC_PAGE_SIZE")
MAY_GROW = 4 << 20  # bytes, whatever the number of installations
MAY_KEEP = {"softhsm": 4 << 10, "nss": 16 << 10}  # bytes of each, by the library
MAY_SLOW = 1.5  # times, from the first hundred to the last


class Holder:
    """A vault, and the process that holds the token: another one now and then."""

    def __init__(self, vault: Any, pid: Callable[[], int]) -> None:
        self.vault, self._pid = vault, pid

    def resident(self) -> int:
        gc.collect()
        return self._read(lambda process: int((process / "statm").read_text().split()[1]) * PAGE)

    def open_files(self) -> int:
        return self._read(lambda process: len(list((process / "fd").iterdir())))

    def _read(self, what: Callable[[Path], int]) -> int:
        deadline = time.monotonic() + 10
        while True:
            try:
                self.vault.random(1)  # there is one
                return what(Path(f"/proc/{self._pid()}"))
            except FileNotFoundError:
                assert time.monotonic() < deadline


@pytest.fixture(params=["in process", "service"])
def holder(request: pytest.FixtureRequest, each_token: CarToken) -> Iterator[Holder]:
    if request.param == "service":
        with each_token.service() as service:
            yield Holder(service.client(), lambda: service.pid)
        return
    vault = each_token.open()
    yield Holder(vault, os.getpid)
    vault.close()


def files(folder: Path) -> int:
    return sum(one.is_file() for one in folder.rglob("*"))


def test_installations_in_a_row(
    holder: Holder, each_token: CarToken, world: World, whole: bool
) -> None:
    vault = holder.vault
    point = vault.generate_provisioning_key()
    store = Files(str(each_token.folder / "store"))
    trust, contracts = Trust(store, vault.verify), Contracts(store)
    trust.install("EU", world.anchors, NOW)

    def renew(n: int) -> float:
        contract = world.new_contract(STORED, not_before=NOW - 100_000 + n)
        response = world.response(point, contract=contract)
        start = time.perf_counter()
        install(response, Request(SESSION_ID), trust, contracts, vault, NOW)
        return time.perf_counter() - start

    def counted() -> list[int]:
        return [
            len(vault.keys()),
            objects(vault),
            files(each_token.folder),
            len(store.read("contracts") or b""),
            holder.open_files(),
        ]

    for n in range(WARM):
        renew(n)
    before, memory = counted(), holder.resident()
    count = 10_000 if whole else 20
    times = [renew(WARM + n) for n in range(count)]
    assert counted() == before
    grown = holder.resident() - memory
    assert grown < MAY_GROW + count * MAY_KEEP[each_token.provider.name]
    if whole:
        first, last = (sorted(part)[len(part) // 2] for part in (times[:100], times[-100:]))
        assert last < first * MAY_SLOW
        speed = f"{first * 1e3:.1f} ms at first, {last * 1e3:.1f} in the end"
        print(f"{count} installations: {grown >> 10} KiB more, {speed}")
    assert Contracts(store).recover(vault) == []
