"""Installation after installation in one module, on 32 bits and with the heap of a board.

It runs on MicroPython's Unix port, with the bytecode and the vault of a board. The emulated board
takes a quarter of a billion instructions for each: `tests/board/test_life.py` does 120 of them.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import plugvault.car
from evcc import envelopes
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.car import Car
from plugvault.telematics import Maker
from plugvault.tokens import Token
from world import EMAID, PCID, World

SIZES = Path(__file__).parents[2] / "tools/sizes.py"
SESSION_ID = bytes(range(8))
MAY_GROW = 2048  # bytes: the collector finds no fewer, since it takes numbers for addresses
FULL = 112  # envelopes in the table, which grows by its last step: with 128 it takes no contract
# In front of main.py. The status tells the heap in use. The first envelope fills the table, and
# each later one takes the place of the first.
HEAD = f"""
import boot
import gc
from evcc import contracts
from evcc.module import Module
FIRST, ENTRY = {envelopes._HEAD}, {envelopes._ENTRY}
END = FIRST + {FULL} * ENTRY
class Full(contracts.Envelopes):
    def __init__(self, *stored):
        super().__init__(*stored)
        self._table += bytes(END - len(self._table))
    def add(self, *envelope):
        super().add(*envelope)
        if self._end > END:
            self._table[FIRST : FIRST + ENTRY] = self._table[END : self._end]
        self._end = END
contracts.Envelopes = Full
status = Module._status
def status_with_heap(self, request):
    answer = status(self, request)
    gc.collect()
    answer["heap"] = gc.mem_alloc()
    return answer
Module._status = status_with_heap
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The module as bytecode, and HEAD in front of its main.py."""
    folder = tmp_path / "mpy"
    subprocess.run([sys.executable, SIZES, "--keep", folder], check=True, capture_output=True)
    of_linux = ("evcc/ports/exclusive.py", "evcc/ports/serial.py")  # here a tty is a board's UART
    for name in ("boot.py", *of_linux):
        shutil.copy(runtimes.firmware() / name, folder / name)
    (folder / "main.py").write_text(HEAD + (runtimes.firmware() / "main.py").read_text())
    return folder


def provisioned(maker: Maker, world: World) -> Maker:
    point = maker.connect()
    maker.csr(PCID, "Plug Test", "DE")
    maker.install_trust("EU", world.anchors)
    maker.install_certificate(world.provisioning(point).chain)
    return maker


def install(maker: Maker, world: World, number: int) -> None:
    contract = world.new_contract(EMAID, not_before=world.now - 100_000 + number)
    response = world.response(maker.car, contract=contract, session_id=SESSION_ID)
    maker.offer_contract(EMAID, SESSION_ID)
    assert maker.install_contract(response) == "L1+"


def test_installations_in_a_row_leave_the_heap_of_a_board_as_it_was(
    tmp_path: Path,
    car_token: CarToken,
    makers: Token,
    code: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: bool,
) -> None:
    runtime = runtimes.get("debian32")
    if runtime is None:
        pytest.skip("no interpreter 'debian32' here; make says why")
    service = functools.partial(plugvault.car.VaultService, openings_per_hour=None)
    monkeypatch.setattr(plugvault.car, "VaultService", service)
    budget = json.loads((runtimes.firmware() / "budgets.json").read_text())["heap_of_a_life"]
    world, key = World(now=int(time.time())), makers.generate("telematics")
    how = {"code": code, "heap": str(budget), "vault": "link"}
    with Car(runtime, "serial", tmp_path / "car", maker=key.point, token=car_token, **how) as car:
        maker = provisioned(car.maker(key), world)
        count, warm = 1000 if whole else 20, 10
        for number in range(warm):
            install(maker, world, number)
        before = car.status()["heap"]
        for number in range(count):
            install(maker, world, warm + number)
        status = car.status()
        grown = status["heap"] - before
    assert grown < MAY_GROW
    assert [contract["emaid"] for contract in status["contracts"]] == [EMAID]
    assert (status["unnamed_keys"], status["locked"]) == (0, False)
    print(f"{count} installations: {grown} bytes more of {status['heap']}")
