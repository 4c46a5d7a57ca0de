"""A customer's choice reaches the pool, whatever the pool answers meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugvault.roles.backend import Backend
from plugvault.roles.client import OpcpError
from plugvault.roles.work_queue import CHOOSE, REMOVE
from world import PCID

A, B, SECOND_CAR = "DEPVT0000000012", "DEPVT0000000X19", "PVTP0000000000002"


class Pool:
    """`status`: the pool's answer to each choice, None for success, 0 for no answer; `asked`: the
    choices that it got; `meanwhile`: called once, before the answer to a choice."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.asked: list[str] = []
        self.default = ""
        self.meanwhile: Callable[[], None] | None = None

    def choose(self, pcid: str, emaid: str) -> None:
        self.asked.append(emaid)
        if self.status is not None:
            raise OpcpError("refused" if self.status else "unreachable", "", self.status)
        happens, self.meanwhile = self.meanwhile, None
        if happens:
            happens()
        self.default = emaid

    def contracts(self, pcid: str) -> list[dict[str, Any]]:
        return []

    def check(self, message: bytes, emaid: str) -> None:
        """No bundle is sent here."""


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def backend(tmp_path: Path, pool: Pool) -> Iterator[Backend]:
    maker: Any = pool
    with Backend(maker, tmp_path / "backend.sqlite") as opened:
        yield opened


def work(backend: Backend) -> list[tuple[str, str, str]]:
    return [(each.action, each.emaid, each.state) for each in backend.queue.history(PCID)]


@pytest.mark.parametrize("status", [0, 401, 403, 408, 429, 500, 503])
def test_choice_outlives_an_error_of_the_pool_that_passes(
    backend: Backend, pool: Pool, status: int
):
    pool.status = status
    backend.choose(PCID, A)
    backend._send_choices()
    assert backend.queue.intended() == [(PCID, A)]
    pool.status = None
    backend._send_choices()
    assert backend.queue.intended() == []
    assert pool.default == A
    assert work(backend) == [(CHOOSE, A, "waiting")]


@pytest.mark.parametrize("status", [400, 404, 409])
def test_health_tells_of_a_waiting_choice_that_the_pool_refuses(
    backend: Backend, pool: Pool, status: int
):
    pool.status = 0
    backend.choose(PCID, A)
    pool.status = status
    backend._send_choices()
    assert backend.queue.intended() == []
    (event,) = backend.health.events
    assert (event.name, event.subject) == ("refused", PCID)
    assert A in event.text
    with pytest.raises(OpcpError, match="refused"):
        backend.choose(PCID, B)


def test_newer_choice_during_the_call_of_an_older_one_wins(backend: Backend, pool: Pool):
    """Both calls end in either order, but the pool gets the newer choice last."""
    customer = threading.Thread(target=backend.choose, args=(PCID, B))

    def customer_chooses() -> None:
        customer.start()
        customer.join(0.2)  # the newer call must wait for the older one

    pool.meanwhile = customer_chooses
    backend.choose(PCID, A)
    customer.join()
    assert pool.asked == [A, B]
    assert pool.default == B
    assert work(backend) == [(CHOOSE, B, "waiting")]


def test_older_choice_is_not_sent_after_a_newer_one(
    backend: Backend, pool: Pool, monkeypatch: pytest.MonkeyPatch
):
    pool.status = 0
    backend.choose(PCID, A)
    pool.status = None
    older = backend.queue.intended()
    backend.choose(PCID, B)
    monkeypatch.setattr(backend.queue, "intended", lambda: older)
    backend._send_choices()
    assert pool.default == B


@pytest.mark.parametrize(
    "status, attempts", [(0, 1), (401, 1), (503, 1), (403, 2), (404, 2), (None, 2)]
)
def test_pool_that_is_away_is_asked_once_for_all_waiting_choices(
    backend: Backend, pool: Pool, status: int | None, attempts: int
):
    for vehicle in (PCID, SECOND_CAR):
        backend.queue.intend(vehicle, A)
    pool.status = status
    backend._send_choices()
    assert len(pool.asked) == attempts


def test_contract_taken_out_and_chosen_again_stays_in_the_car(backend: Backend):
    backend.remove(PCID, A)
    backend.choose(PCID, A)
    assert work(backend) == [(REMOVE, A, "replaced"), (CHOOSE, A, "waiting")]
    assert backend.queue.unwanted(PCID) == set()


def test_refused_choice_leaves_the_contract_taken_out(backend: Backend, pool: Pool):
    backend.remove(PCID, A)
    pool.status = 404
    with pytest.raises(OpcpError):
        backend.choose(PCID, A)
    assert work(backend) == [(REMOVE, A, "waiting")]
    assert backend.queue.unwanted(PCID) == {A}


def test_removal_ends_an_older_choice_that_still_waits(backend: Backend, pool: Pool):
    pool.status = 0
    backend.choose(PCID, A)
    backend.remove(PCID, A)
    pool.status = None
    backend._send_choices()
    assert pool.asked == [A]
    assert work(backend) == [(REMOVE, A, "waiting")]
