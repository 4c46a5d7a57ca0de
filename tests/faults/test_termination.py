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
WAIT_TIMEOUT = 30.0  # seconds until a worker has done something

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
    """Return the job, its remaining and revoked contracts, and the published vehicles."""
    with store.read() as records:
        stored = records.jobs.get(job.job_id)
        assert stored
        remaining = records.contracts.of_provider("DEPVT", COUNT + 1)
        revoked = [status for status in records.statuses.all() if status.revoked is not None]
        published = Counter(
            event.vehicle
            for event in records.events.since(0, None, 10 * COUNT)
            if event.kind == "oem.contract.deleted"
        )
        return stored, len(remaining), len(revoked), published


def test_a_worker_that_is_killed_loses_nothing_and_the_next_goes_on(
    store_url: str, open_store: Callable[[str], SqlStore], pool_world: World
):
    store = open_store(store_url)
    job = filled(Pools(store, pool_world))
    moment = float(NOW)
    for _ in range(KILLS):
        before = now(store, job)[0].done
        with subprocess.Popen([sys.executable, "-c", WORKER, store_url, str(moment)]) as worker:
            deadline = time.monotonic() + WAIT_TIMEOUT
            while now(store, job)[0].done == before:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            worker.send_signal(signal.SIGKILL)
        stored, remaining, revoked, published = now(store, job)
        assert stored.state == termination.WAITING, "killed before the end"
        assert remaining == COUNT - stored.done
        assert revoked == stored.done
        assert (sum(published.values()), set(published.values())) == (stored.done, {1})
        assert termination.work(store, moment) is None, "it is still leased to the dead one"
        moment += termination.LEASE + 1
    while termination.work(store, moment, 50):
        pass
    stored, remaining, revoked, published = now(store, job)
    assert (stored.state, stored.done, remaining, revoked) == (termination.DONE, COUNT, 0, COUNT)
    assert published == Counter(f"PVTP{number:013}" for number in range(COUNT))
