"""An operator leaves: all its contracts are removed and revoked, in small steps.

An extension: OPCP ends contracts one by one. A step is one short transaction, so that everybody
else goes on meanwhile, and notes how far it came in the job: a worker that is killed loses
nothing, the next one goes on, and two at once do no contract twice. What the operator stores
before the last step goes too; that it can store no more is for who took its access away.
"""

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from plugvault.pools import audit, authorization, contracts
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Job
from plugvault.pools.repositories import Records, Store

KIND = "terminate"
WAITING, DONE = "waiting", "done"
BATCH = 100  # contracts: some 10 ms of the database
PAUSE = 0.02  # seconds after a step: SQLite's other writers look again, they do not queue
TURN = 1.0  # seconds of steps before `work` comes back
LEASE = 60.0  # seconds without a step after which another worker takes the job
PROVIDER_PATTERN = r"^[A-Za-z]{2}-?[0-9A-Za-z]{3}$"
MISSING = "There is no such termination."


def begin(records: Records, caller: Caller, provider: str, now: float) -> Job:
    """Have all contracts of a provider ("DEPVA") ended; the job that does it.

    For administrators and the operator itself. Asked again before the end, it is the same job.
    """
    provider = _own(caller, provider)
    records.lock(f"{KIND} {provider}")
    for job in records.jobs.all():
        if (job.kind, job.subject, job.state) == (KIND, provider, WAITING):
            return job
    job = Job(str(uuid.uuid4()), KIND, provider, caller.client_id, int(now))
    records.jobs.put(job)
    audit.note(records, caller.signature, "termination asked for", provider, job.job_id, now)
    return job


def progress(records: Records, caller: Caller, provider: str, job_id: str) -> Job:
    """How far a termination is. Raises PoolError as `begin`, and "not-found"."""
    provider = _own(caller, provider)
    job = records.jobs.get(job_id)
    if job is None or (job.kind, job.subject) != (KIND, provider):
        raise PoolError("not-found", MISSING)
    return job


def step(store: Store, job: Job, now: float, batch: int = BATCH) -> Job:
    """Do the next part of a job, and give it as it is then; done when there was nothing left."""
    with store.write() as records:
        records.lock(job.job_id)
        current = records.jobs.get(job.job_id)
        if current is None or (current.state, current.done) != (WAITING, job.done):
            return current or replace(job, state=DONE)  # another worker is ahead
        going = _take(records, job.subject, batch)
        _remove(records, going, now)
        more = replace(current, done=current.done + len(going), lease=now + LEASE)
        after = more if going else replace(more, state=DONE, lease=0.0)
        records.jobs.put(after)
        if after.state == DONE:
            detail = f"{after.done} contracts"
            audit.note(records, KIND, "termination done", job.subject, detail, now)
        return after


def work(store: Store, now: float, batch: int = BATCH) -> Job | None:
    """Take a job nobody has in hand and do steps of it for a while; None when there is none.

    For a worker to call again and again: what is left is free for the next call, anybody's.
    """
    ends = time.monotonic() + TURN
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


def _take(records: Records, provider: str, batch: int) -> Sequence[Contract]:
    """Contracts whose vehicles no other writer has in hand until the transaction ends."""
    vehicles = {one.vehicle for one in records.contracts.of_provider(provider, batch)}
    if not vehicles:
        return ()
    records.lock(*vehicles)
    found = records.contracts.of_provider(provider, batch)  # as it is now that they are ours
    return [one for one in found if one.vehicle in vehicles]


def _remove(records: Records, going: Sequence[Contract], now: float) -> None:
    """As `contracts.remove`, for many: of statements, not of meaning, there are fewer."""
    issued = [(one.issuer, one.serial) for one in going]
    records.statuses.revoke(issued, contracts.ENDED, int(now))
    records.contracts.delete_all(going)
    for contract in going:
        contracts.tell_maker(records, "oem.contract.deleted", contract, now)


def _own(caller: Caller, provider: str) -> str:
    if not re.fullmatch(PROVIDER_PATTERN, provider, re.ASCII):
        raise PoolError("invalid", f'provider : must match "{PROVIDER_PATTERN}"')
    provider = provider.replace("-", "").upper()
    authorization.check(caller, "ccp.terminate", emaid=provider)
    return provider
