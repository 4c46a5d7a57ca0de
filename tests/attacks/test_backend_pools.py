"""Attacks on what the pools keep: another maker's vehicle, a request from a vehicle that is gone,
a bundle for a key that is gone, a wipe done twice.

Each starts from a vehicle that gets its contract at a station.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc.check_digit import emaid_check_digit
from fixtures.pools import MAKER, OPERATOR, OTHER_MAKER, Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pools import pcp
from plugvault.pools.errors import PoolError
from world import EMAID, PCID

UNKNOWN = "PVTP9999999999999"


def second_emaid() -> str:
    return "DEPVT000000002" + emaid_check_digit("DEPVT000000002")


@pytest.fixture
def request_of_vehicle(pools: Pools) -> bytes:
    """Return the installation request of a vehicle with two contracts."""
    stored = pools.register()
    pools.put()
    pools.put(pools.sign(pools.data(second_emaid())))
    request = pools.request(stored.certificate)
    assert pools.install(request).emaid == EMAID
    return request


def kept(pools: Pools) -> Any:
    """All that a vehicle has in the pools, and how many events there were."""
    with pools.store.read() as records:
        return (
            records.vehicles.get(PCID, ISO2),
            records.contracts.of_vehicle(PCID, ISO2),
            len(records.events.since(0, None, 1000)),
        )


def told(pools: Pools, kind: str) -> int:
    with pools.store.read() as records:
        return sum(event.kind == kind for event in records.events.since(0, None, 1000))


def refused(pools: Pools, call: Callable[..., Any], pcid: str) -> PoolError:
    """The answer to another maker."""
    with pytest.raises(PoolError) as caught, pools.store.write() as records:
        call(records, OTHER_MAKER, pcid, pools.now)
    return caught.value


def test_oem_of_other_wmi_cannot_read_or_delete_pcid(pools: Pools, request_of_vehicle: bytes):
    before = kept(pools)
    for call in (pcp.get, pcp.delete, pcp.reset):
        existing, missing = (refused(pools, call, pcid) for pcid in (PCID, UNKNOWN))
        assert existing.reason == missing.reason == "forbidden"
        assert existing.detail == missing.detail, "which would say whether the vehicle exists"
    taken_over = pools.provisioning(key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(PoolError, match="WMI"):
        pools.register(taken_over, OTHER_MAKER)
    assert kept(pools) == before
    assert pools.install(request_of_vehicle).emaid == EMAID


def test_req_for_deleted_provisioning_cert_rejected(pools: Pools, request_of_vehicle: bytes):
    with pools.store.write() as records:
        pcp.delete(records, MAKER, PCID, pools.now)
    with pytest.raises(PoolError, match="not found"):
        pools.install(request_of_vehicle)
    # Not either when the PCID comes back with another key and a contract for that.
    pools.ecu = ec.generate_private_key(ec.SECP256R1())
    stored = pools.register()
    pools.put()
    with pytest.raises(PoolError, match="not found"):
        pools.install(request_of_vehicle)
    assert pools.install(pools.request(stored.certificate)).emaid == EMAID


def test_new_provisioning_key_purges_old_bundles(pools: Pools, request_of_vehicle: bytes):
    old = pools.provisioning_der()
    new_key = ec.generate_private_key(ec.SECP256R1())
    stored = pools.register(pools.provisioning(PCID.lower(), key=new_key))
    with pools.store.read() as records:
        assert records.contracts.of_vehicle(PCID, ISO2) == []
    with pytest.raises(PoolError, match="not found"):
        pools.install(request_of_vehicle)
    with pytest.raises(PoolError, match="not found"):
        pools.install(pools.request(stored.certificate, key=new_key))
    assert told(pools, "mo.prov.cert.updated") == told(pools, "oem.contract.deleted") == 2
    assert pools.provisioning_der() != old


def test_factory_reset_deletes_all_contracts_once(pools: Pools, request_of_vehicle: bytes):
    def reset(_: int) -> int:
        with pools.store.write() as records:
            return pcp.reset(records, MAKER, PCID, pools.now)

    with ThreadPoolExecutor(4) as pool:  # a wipe reported by several at once is one wipe
        gone = list(pool.map(reset, range(4)))
    assert sorted(gone) == [0, 0, 0, 2]
    assert told(pools, "mo.prov.cert.factory.reset") == told(pools, "oem.contract.deleted") == 2
    with pools.store.read() as records:
        assert records.contracts.of_vehicle(PCID, ISO2) == []
        assert pcp.get(records, OPERATOR, PCID, pools.now)
    with pytest.raises(PoolError, match="not found"):
        pools.install(request_of_vehicle)
