"""The CertificateInstallationRes messages that benchmarks install, as large as a real one.

The certificates of the tests' world are smaller than an operator's. An unknown extension, as large
as the addresses in an operator's certificates, fills them.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from cryptography import x509

from world import EMAID, NOW, SESSION_ID, World

__all__ = ["EMAID", "NOW", "SESSION_ID", "World", "answers"]

SIZE = 4416  # bytes: Hubject's published response
CERTIFICATES = 6  # in it: two chains of a leaf and two sub-CAs
OVERHEAD = 20  # bytes of DER around the filling of each


def answers(world: World, point: bytes, count: int = 1) -> list[bytes]:
    """EXI messages of `SIZE` bytes or a few fewer, for the vehicle with the provisioning key
    `point`; each renews the contract of the one before."""
    missing = SIZE - len(world.response(point)) - CERTIFICATES * OVERHEAD
    filling = _filling(missing // CERTIFICATES)
    prov = world.v2g_root.sub("Prov Sub1", 1, **filling).sub("Prov Sub2", **filling)
    mo = world.mo_root.sub("MO Sub1", 1, "MO", **filling).sub("MO Sub2", dc="MO", **filling)
    cps = prov.issue("CPS", dc="CPS", **filling)
    contracts = [
        mo.issue(EMAID, dc="MO", country=None, not_before=NOW - 1000 + i, **filling)
        for i in range(count)
    ]
    return [world.response(point, cps=cps, contract=contract) for contract in contracts]


def _filling(size: int) -> dict[str, Any]:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.311.99"), bytes(size))
    return {"extensions": [(unknown, False)]}
