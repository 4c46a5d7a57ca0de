"""The termination of an operator deletes each of its contracts once, after any interruption."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from fixtures.pools import OPERATOR, OTHER_OPERATOR, Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pools import ccp, clients, providers, termination
from plugvault.pools.caller import ADMIN, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Job, Status
from world import EMAID, NOW

ADMINISTRATOR = Caller("admin", frozenset({ADMIN}))
COUNT = 25
STAYS = "DEPVUC00000001"


@pytest.fixture
def many(pools: Pools) -> Pools:
    """One contract of another operator and COUNT of the one that leaves, half of them issued by
    a CA of ours, on five vehicles."""
    pools.register()
    pattern = pools.put()
    with pools.store.write() as records:
        records.contracts.delete(EMAID, ISO2)
        for number in range(COUNT):
            serial, vehicle = f"{number:04x}", f"PVTP{number % 5:013}"
            emaid = f"DEPVTC{number:08}"
            records.contracts.put(
                replace(pattern, emaid=emaid, vehicle=vehicle, pcid=vehicle, serial=serial)
            )
            if number % 2:
                records.statuses.put(Status(pattern.issuer, serial, emaid, pattern.not_after))
        records.contracts.put(replace(pattern, emaid=STAYS, serial="ffff"))
    return pools


def begin(pools: Pools, caller: Caller = OPERATOR, provider: str = "DEPVT") -> Job:
    with pools.store.write() as records:
        return termination.begin(records, caller, provider, pools.now)


def finish(pools: Pools, job: Job, batch: int = 4) -> Job:
    while job.state == termination.WAITING:
        job = termination.step(pools.store, job, pools.now, batch)
    return job


def deleted(pools: Pools) -> Counter[str]:
    with pools.store.read() as records:
        return Counter(
            json.loads(event.payload)["emaid"][:14]
            for event in records.events.since(0, None, 1000)
            if event.kind == "oem.contract.deleted"
        )


def test_all_of_the_operators_contracts_go_and_no_others(many: Pools):
    job = finish(many, begin(many))
    assert (job.done, job.state, job.lease) == (COUNT, termination.DONE, 0.0)
    with many.store.read() as records:
        assert records.contracts.of_provider("DEPVT", 1) == []
        (remaining,) = records.contracts.of_provider("DEPVU", 2)
        assert remaining.emaid == STAYS
        issuer = remaining.issuer
        statuses = [records.statuses.get(issuer, f"{number:04x}") for number in range(COUNT)]
    revoked = [status.revoked if status else "not ours" for status in statuses]
    assert revoked == [int(NOW) if number % 2 else "not ours" for number in range(COUNT)]
    assert deleted(many) == Counter(f"DEPVTC{number:08}" for number in range(COUNT))


def test_a_step_does_no_more_than_its_batch_and_says_how_far_it_is(many: Pools):
    job = begin(many)
    job = termination.step(many.store, job, many.now, 10)
    assert (job.done, job.state) == (10, termination.WAITING)
    assert job.lease > many.now
    with many.store.read() as records:
        assert termination.progress(records, OPERATOR, "DE-PVT", job.job_id) == job
        assert len(records.contracts.of_provider("DEPVT", 100)) == COUNT - 10


def test_a_worker_that_comes_late_does_nothing_twice(many: Pools):
    job = begin(many)
    progressed = termination.step(many.store, job, many.now, 10)
    assert termination.step(many.store, job, many.now, 10) == progressed
    assert finish(many, progressed).done == COUNT
    assert termination.step(many.store, progressed, many.now).state == termination.DONE
    assert set(deleted(many).values()) == {1}


def test_concurrent_workers_end_each_contract_once(many: Pools):
    job = begin(many)
    with ThreadPoolExecutor(4) as pool:
        after = list(pool.map(lambda _: finish(many, job, 3), range(4)))
    assert {job_.done for job_ in after} == {COUNT}
    assert deleted(many) == Counter(f"DEPVTC{number:08}" for number in range(COUNT))


def test_a_step_that_fails_leaves_nothing_half_done(many: Pools, monkeypatch: pytest.MonkeyPatch):
    job = begin(many)

    def fail(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as broken:
        broken.setattr(termination.contracts, "tell_maker", fail)
        with pytest.raises(RuntimeError):
            termination.step(many.store, job, many.now, 10)
    with many.store.read() as records:
        assert records.jobs.get(job.job_id) == job
        assert len(records.contracts.of_provider("DEPVT", 100)) == COUNT
        assert not records.statuses.revoked_by(records.contracts.of_provider("DEPVT", 1)[0].issuer)
    assert finish(many, job).done == COUNT


def test_workers_take_jobs_without_a_lease(many: Pools, monkeypatch):
    monkeypatch.setattr(termination, "WORK_TIME", 0.0)
    assert termination.work(many.store, many.now) is None
    job = begin(many)
    with many.store.write() as records:
        assert records.jobs.claim(many.now, many.now + termination.LEASE)
    assert termination.work(many.store, many.now) is None, "another worker has it"
    many.now += termination.LEASE + 1  # and was killed
    assert termination.work(many.store, many.now) == replace(job, lease=many.now + 60.0)
    monkeypatch.setattr(termination, "WORK_TIME", 10.0)
    finished = termination.work(many.store, many.now, 4)
    assert finished
    assert (finished.state, finished.done) == (termination.DONE, COUNT)
    assert termination.work(many.store, many.now) is None


def test_a_contract_stored_meanwhile_goes_too(many: Pools):
    job = termination.step(many.store, begin(many), many.now, 20)
    many.put()
    assert finish(many, job).done == COUNT + 1
    assert many.contract() is None


def test_a_repeated_request_is_the_same_job_until_it_is_done(many: Pools):
    job = begin(many)
    assert begin(many, ADMINISTRATOR, "de-pvt") == job
    finish(many, job)
    assert begin(many).job_id != job.job_id


def test_two_concurrent_requests_are_one_job(many: Pools):
    begun, ended = Event(), Event()

    def first() -> Job:
        with many.store.write() as records:
            job = termination.begin(records, OPERATOR, "DEPVT", many.now)
            begun.set()
            ended.wait(0.3)  # the second one cannot set it earlier; this only gives it time
            return job

    def second() -> Job:
        begun.wait()
        job = begin(many, ADMINISTRATOR)
        ended.set()
        return job

    with ThreadPoolExecutor(2) as threads:
        jobs = [future.result() for future in [threads.submit(call) for call in (first, second)]]
    assert jobs[0] == jobs[1]


def test_a_step_skips_a_contract_that_its_operator_deletes(many: Pools):
    """The operator deletes one contract during its termination: the maker gets one event."""
    job = begin(many)
    begun, ended = Event(), Event()

    def delete() -> None:
        with many.store.write() as records:
            ccp.delete(records, OPERATOR, "DEPVTC00000000", many.now)
            begun.set()
            ended.wait(0.3)

    def end() -> None:
        begun.wait()
        finish(many, job, COUNT)
        ended.set()

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(call) for call in (delete, end)]:
            future.result()
    assert deleted(many) == Counter(f"DEPVTC{number:08}" for number in range(COUNT))


def test_the_operator_itself_and_administrators_may_terminate(many: Pools):
    for caller, words in (
        (OTHER_OPERATOR, "provider"),
        (Caller("nobody", frozenset()), "This call is for"),
    ):
        with pytest.raises(PoolError, match=words) as caught:
            begin(many, caller)
        assert caught.value.reason == "forbidden"
    with pytest.raises(PoolError, match="provider : must match"):
        begin(many, ADMINISTRATOR, "DEP")
    job = begin(many, ADMINISTRATOR)
    with many.store.read() as records, pytest.raises(PoolError, match="forbidden"):
        termination.progress(records, OTHER_OPERATOR, "DEPVT", job.job_id)


def test_a_cached_caller_of_a_lost_provider_terminates_nothing(many: Pools):
    owner = replace(OPERATOR, client_id="operator")
    with many.store.write() as records:
        providers.enter(records, ADMINISTRATOR, "DEPVT", owner.name, NOW)
        clients.register(records, owner, (owner.client_id, "secret"), "test", NOW)
        providers.enter(records, ADMINISTRATOR, "DEPVT", "another", NOW)
    with pytest.raises(PoolError, match="forbidden"):
        begin(many, owner)
    with many.store.read() as records:
        assert records.jobs.all() == []


def test_a_termination_of_another_provider_is_not_found(many: Pools):
    job = begin(many)
    with many.store.read() as records:
        for provider, job_id in (("DEPVU", job.job_id), ("DEPVT", "nothing")):
            with pytest.raises(PoolError, match="no such termination") as caught:
                termination.progress(records, ADMINISTRATOR, provider, job_id)
            assert caught.value.reason == "not-found"


def test_a_termination_is_in_the_trail(many: Pools):
    finish(many, begin(many))
    with many.store.read() as records:
        lines = [(line.action, line.subject) for line in records.audit.since(0, 100)]
    assert ("termination asked for", "DEPVT") in lines
    assert ("termination done", "DEPVT") in lines
