"""A start with a clock that is years ahead, and the starts after it."""

from __future__ import annotations

import time
from pathlib import Path

from fixtures.backend import Vehicle
from plugvault.ecosystem import Ecosystem
from plugvault.pki import path

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
