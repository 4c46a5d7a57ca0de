"""Termination of an operator: all its contracts are deleted and revoked, in small steps.

An extension: OPCP deletes contracts one by one. A step is one short transaction, so that other
writers can continue, and it stores its progress in the job. After a kill the next worker
continues, and two workers delete no contract twice. Contracts that the operator stores before the
last step are deleted too; locking its client is a separate task of the administrator.
"""

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from plugvault.pools import audit, authorization, contracts, scopes
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Job
from plugvault.pools.repositories import Records, Store

KIND = "terminate"
WAITING, DONE = "waiting", "done"
BATCH = 100  # contracts: some 10 ms of the database
PAUSE = 0.02  # seconds after a step: waiting SQLite writers poll, they do not queue
WORK_TIME = 1.0  # seconds of steps in one call of `work`
LEASE = 60.0  # seconds without a step after which another worker takes the job
PROVIDER_PATTERN = r"^[A-Za-z]{2}-?[0-9A-Za-z]{3}$"
MISSING = "There is no such termination."


def begin(records: Records, caller: Caller, provider: str, now: float) -> Job:
    """Start the termination of a provider ("DEPVA"). Return its job; until the job is done, every
    call returns the same one.

    Raises PoolError: "invalid" for a malformed identifier, "forbidden" for another operator's.
    """
    provider = _own(scopes.of_client(records, caller), provider)
    records.lock(f"{KIND} {provider}")
    for job in records.jobs.all():
        if (job.kind, job.subject, job.state) == (KIND, provider, WAITING):
            return job
    job = Job(str(uuid.uuid4()), KIND, provider, caller.client_id, int(now))
    records.jobs.put(job)
    audit.note(records, caller.signature, "termination asked for", provider, job.job_id, now)
    return job


def progress(records: Records, caller: Caller, provider: str, job_id: str) -> Job:
    """The job of a termination. Raises PoolError as `begin`, and "not-found"."""
    provider = _own(caller, provider)
    job = records.jobs.get(job_id)
    if job is None or (job.kind, job.subject) != (KIND, provider):
        raise PoolError("not-found", MISSING)
    return job


def step(store: Store, job: Job, now: float, batch: int = BATCH) -> Job:
    """Do the next step of a job: delete `batch` contracts at most. Return the job after it; its
    state is "done" when no contract was left."""
    with store.write() as records:
        records.lock(job.job_id)
        current = records.jobs.get(job.job_id)
        if current is None or (current.state, current.done) != (WAITING, job.done):
            return current or replace(job, state=DONE)  # another worker did this step
        batch_contracts = _lock_next(records, job.subject, batch)
        _remove(records, batch_contracts, now)
        after = replace(current, done=current.done + len(batch_contracts), lease=now + LEASE)
        if not batch_contracts:
            after = replace(after, state=DONE, lease=0.0)
        records.jobs.put(after)
        if after.state == DONE:
            detail = f"{after.done} contracts"
            audit.note(records, KIND, "termination done", job.subject, detail, now)
        return after


def work(store: Store, now: float, batch: int = BATCH) -> Job | None:
    """Lease a waiting job and do steps of it for `WORK_TIME` seconds. Return the job, or None when
    no job waits.

    A worker calls this repeatedly. The remaining steps are free for the next call of any worker.
    """
    ends = time.monotonic() + WORK_TIME
    with store.write() as records:
        job = records.jobs.claim(now, now + LEASE)
    if job is None or job.kind != KIND:
        return None
    while job.state == WAITING and time.monotonic() < ends:
        job = step(store, job, now, batch)
        time.sleep(PAUSE)
    with store.write() as records:
        records.lock(job.job_id)
        current = records.jobs.get(job.job_id)
        if current == job and job.state == WAITING:
            records.jobs.put(replace(job, lease=0.0))
    return job


def _lock_next(records: Records, provider: str, batch: int) -> Sequence[Contract]:
    """The next contracts of a provider, with their vehicles locked."""
    vehicles = {contract.vehicle for contract in records.contracts.of_provider(provider, batch)}
    if not vehicles:
        return ()
    records.lock(*vehicles)
    contracts = records.contracts.of_provider(provider, batch)  # read again under the locks
    return [contract for contract in contracts if contract.vehicle in vehicles]


def _remove(records: Records, batch_contracts: Sequence[Contract], now: float) -> None:
    """As `contracts.remove`, with few SQL statements for many contracts."""
    identities = [(contract.issuer, contract.serial) for contract in batch_contracts]
    records.statuses.revoke(identities, contracts.ENDED, int(now))
    records.contracts.delete_all(batch_contracts)
    for contract in batch_contracts:
        contracts.tell_maker(records, "oem.contract.deleted", contract, now)


def _own(caller: Caller, provider: str) -> str:
    if not re.fullmatch(PROVIDER_PATTERN, provider, re.ASCII):
        raise PoolError("invalid", f'provider : must match "{PROVIDER_PATTERN}"')
    provider = provider.replace("-", "").upper()
    authorization.check(caller, "ccp.terminate", emaid=provider)
    return provider
