"""The trust anchors in the car: a set of a region's, of sixteen at most, replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from evcc.ports.files import Files
from evcc.trust import MAX_ANCHORS, Trust, TrustError
from plugvault.pki.verify import verify_p256
from world import NOW, root

ROOTS = [root(f"V2G Root {number}").der for number in range(MAX_ANCHORS + 1)]


def held(trust: Trust) -> list[bytes]:
    return [anchor.der for anchor in trust.anchors("V2G", "MO", "OEM")]


def test_sixteen_roots_fit_and_another_regions_take_their_place(tmp_path: Path):
    trust = Trust(Files(str(tmp_path)), verify_p256)
    full = [("V2G", store) for store in ROOTS[:-1]]
    trust.install("EU", full, NOW)
    assert (trust.region(), held(trust)) == ("EU", ROOTS[:-1])
    with pytest.raises(TrustError, match="too-many"):
        trust.install("NA", [*full, ("V2G", ROOTS[-1])], NOW)
    assert (trust.region(), held(trust)) == ("EU", ROOTS[:-1])
    trust.install("NA", [("V2G", ROOTS[-1]), ("MO", ROOTS[0])], NOW)
    for store in (trust, Trust(Files(str(tmp_path)), verify_p256)):  # and after a restart
        assert (store.region(), held(store)) == ("NA", [ROOTS[-1], ROOTS[0]])
        assert [root.der for root in store.anchors("V2G")] == [ROOTS[-1]]
