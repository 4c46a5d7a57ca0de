"""Any bytes at the ports of SDP, TLS and V2GTP, at the station's end and at the car's.

No crash, no hang, no growth. `make soak` does it for half an hour each.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("sdp")  # one station alone answers on an interface

FUZZ = Path(__file__).parents[1] / "fuzz"
sys.path.append(str(FUZZ))
_spec = importlib.util.spec_from_file_location("fuzz_run", FUZZ / "run.py")  # `both` has one, too
assert _spec is not None
run = importlib.util.module_from_spec(_spec)
assert _spec.loader is not None
_spec.loader.exec_module(run)

PORTS = ("station_sdp", "station_tls", "station_port", "car_sdp", "car_tls", "car_port")
INPUTS = 25  # of make test
SOAK = 1800  # seconds


@pytest.mark.parametrize("name", PORTS)
def test_a_port_takes_any_bytes(name: str, whole: bool) -> None:
    if whole:
        assert run.fuzz(name, SOAK)
    else:
        assert run.fuzz(name, SOAK, inputs=INPUTS, rng=random.Random(name)) == INPUTS


def test_growth_is_noticed() -> None:
    """The guard of the soak itself."""
    small, files = run.used()
    with pytest.raises(MemoryError, match="bytes"):
        run.check_growth("x", (small, files), (small + run.MAY_GROW[0] + 1, files))
    with pytest.raises(MemoryError, match="files"):
        run.check_growth("x", (small, files), (small, files + run.MAY_GROW[1] + 1))
    run.check_growth("x", (small, files), (small, files))
