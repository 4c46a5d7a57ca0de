"""A worker that ends an operator is killed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from fixtures.pools import OPERATOR, Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pools import termination
from plugvault.pools.records import Job, Status
from plugvault.store import SqlStore
from world import EMAID, NOW, World

COUNT = 300
KILLS = 3
PATIENCE = 30.0  # seconds until a worker has done something

WORKER = """
import sys
from plugvault.pools import termination
from plugvault.store import SqlStore
store = SqlStore.open(sys.argv[1])
while termination.work(store, float(sys.argv[2]), batch=3):
    pass
"""


def filled(pools: Pools) -> Job:
    """A job for COUNT contracts that our own CA issued."""
    pools.register()
    pattern = pools.put()
    with pools.store.write() as records:
        records.contracts.delete(EMAID, ISO2)
        for number in range(COUNT):
            serial, vehicle = f"{number:04x}", f"PVTP{number:013}"
            emaid = f"DEPVTC{number:08}"
            records.contracts.put(
                replace(pattern, emaid=emaid, vehicle=vehicle, pcid=vehicle, serial=serial)
            )
            records.statuses.put(Status(pattern.issuer, serial, emaid, pattern.not_after))
        return termination.begin(records, OPERATOR, "DEPVT", NOW)


def now(store: SqlStore, job: Job) -> tuple[Job, int, int, Counter[str]]:
    """The job, and of its contracts: how many are left, how many revoked, which were told of."""
    with store.read() as records:
        found = records.jobs.get(job.job_id)
        assert found
        left = records.contracts.of_provider("DEPVT", COUNT + 1)
        revoked = [one for one in records.statuses.all() if one.revoked is not None]
        told = Counter(
            event.vehicle
            for event in records.events.since(0, None, 10 * COUNT)
            if event.kind == "oem.contract.deleted"
        )
        return found, len(left), len(revoked), told


def test_a_worker_that_is_killed_loses_nothing_and_the_next_goes_on(
    store_url: str, open_store: Callable[[str], SqlStore], pool_world: World
):
    store = open_store(store_url)
    job = filled(Pools(store, pool_world))
    moment = float(NOW)
    for _ in range(KILLS):
        before = now(store, job)[0].done
        with subprocess.Popen([sys.executable, "-c", WORKER, store_url, str(moment)]) as worker:
            deadline = time.monotonic() + PATIENCE
            while now(store, job)[0].done == before:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            worker.send_signal(signal.SIGKILL)
        found, left, revoked, told = now(store, job)
        assert found.state == termination.WAITING, "killed before the end"
        assert left == COUNT - found.done
        assert revoked == found.done
        assert (sum(told.values()), set(told.values())) == (found.done, {1})
        assert termination.work(store, moment) is None, "it is still leased to the dead one"
        moment += termination.LEASE + 1
    while termination.work(store, moment, 50):
        pass
    found, left, revoked, told = now(store, job)
    assert (found.state, found.done, left, revoked) == (termination.DONE, COUNT, 0, COUNT)
    assert told == Counter(f"PVTP{number:013}" for number in range(COUNT))
