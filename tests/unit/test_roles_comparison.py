"""The comparison of vehicle and pool, and the one rule for the contract that pays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundles import signed
from evcc import exi
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.roles.client import OpcpError, encode
from plugvault.roles.comparison import Comparison, Customer, Listed, choice, differences
from plugvault.roles.health import Health
from plugvault.roles.oem import ForwardError
from plugvault.roles.work_queue import CHOOSE, DONE, INSTALL, REJECTED, REMOVE, WorkQueue
from plugvault.telematics import ContractStatus
from world import EMAID, PCID

A, B, C = "DEPVT0000000012", "DEPVT0000000X19", "DEPVT0000000Z27"
DATES = (1, 2)
OURS = Customer({A, B, C}, set())


def listed(emaid: str, default: bool = False, dates: tuple[int, int] = DATES) -> Listed:
    return Listed(emaid, dates, default)


def held(
    emaid: str, active: bool = False, lost: bool = False, dates: tuple[int, int] = DATES
) -> ContractStatus:
    return ContractStatus(emaid, "", *dates, "L1+", active, lost)


@pytest.mark.parametrize(
    "pool, inside, customer, expected",
    [
        ([], [], OURS, []),
        ([listed(A)], [held(A)], OURS, []),
        ([listed(A)], [], OURS, [(INSTALL, A)]),
        ([listed(A)], [held(A, lost=True)], OURS, [(INSTALL, A)]),
        ([listed(A)], [held(A, dates=(0, 2))], OURS, [(INSTALL, A)]),
        ([], [held(A)], OURS, [(REMOVE, A)]),
        ([], [held(A, lost=True)], OURS, [(REMOVE, A)]),
        ([], [held(A)], Customer({B}, set()), []),
        ([listed(A)], [], Customer({A}, {A}), []),
        ([listed(A)], [held(A)], Customer({A}, {A}), [(REMOVE, A)]),
        ([listed(B), listed(C)], [held(A), held(B)], OURS, [(REMOVE, A), (INSTALL, C)]),
    ],
    ids=[
        "nothing", "the same", "missing in the vehicle", "its key is lost", "an old bundle",
        "ended", "ended and lost", "never in the pool", "taken out", "to be taken out", "several",
    ],
)  # fmt: skip
def test_the_vehicle_gets_what_the_pool_has(
    pool: list[Listed],
    inside: list[ContractStatus],
    customer: Customer,
    expected: list[tuple[str, str]],
):
    assert differences(pool, inside, customer) == expected


@pytest.mark.parametrize(
    "pool, inside, expected",
    [
        ([listed(A, True)], [held(A, True)], None),
        ([listed(A, True)], [held(A)], A),
        ([listed(A), listed(B, True)], [held(A, True), held(B)], B),
        ([listed(A), listed(B, True)], [held(A, True)], None),
        ([listed(A), listed(B, True)], [held(A, True), held(B, lost=True)], None),
        ([listed(B)], [held(B, True)], ""),
        ([listed(B)], [held(B)], None),
        ([], [held("GBOCTC1234ABCDJ", True)], None),
    ],
    ids=[
        "the default pays", "none pays yet", "another pays", "the default is not there",
        "the default's key is lost", "no default", "no default and none pays",
        "a contract of another pool",
    ],
)  # fmt: skip
def test_the_pools_default_pays_and_without_one_none_does(
    pool: list[Listed], inside: list[ContractStatus], expected: str | None
):
    assert choice(pool, inside, OURS) == expected


MESSAGE = exi.encode(signed())
LEAF = path.read(response.read(exi.decode(MESSAGE)).contract.certificate)


class Shop:
    """A pool with one contract, a vehicle, and the queue between them."""

    def __init__(self, folder: Path) -> None:
        self.queue = WorkQueue(folder / "backend.sqlite")
        self.health = Health()
        self.entries = [
            {"emaid": EMAID, "contractCertificate": encode(LEAF.der), "defaultContract": True}
        ]
        self.held: list[ContractStatus] = []
        self.pulled: bytes | Exception = MESSAGE
        self.meanwhile: Any = lambda: None
        maker: Any = SimpleNamespace(contracts=lambda pcid: self.entries, pull=self._pull)
        self.comparison = Comparison(maker, self.queue, self.health)

    def _pull(self, emaid: str, pcid: str) -> Any:
        self.meanwhile()
        if isinstance(self.pulled, Exception):
            raise self.pulled
        return SimpleNamespace(message=self.pulled)

    def run(self) -> bool:
        link: Any = SimpleNamespace(contracts=lambda: self.held)
        return self.comparison.run(PCID, link)

    def waiting(self) -> list[tuple[str, str]]:
        return [(work.action, work.emaid) for work in self.queue.waiting(PCID)]

    def holds(self, active: bool = True, lost: bool = False) -> None:
        dates = (LEAF.not_before, LEAF.not_after)
        self.held = [held(EMAID, active, lost, dates)]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(tmp_path)
    yield opened
    opened.queue.close()


def test_a_missing_contract_is_pulled_once(shop: Shop):
    assert shop.run()
    assert not shop.run()
    assert shop.waiting() == [(INSTALL, EMAID)]
    assert shop.queue.waiting(PCID)[0].message == MESSAGE


def test_a_vehicle_that_is_right_makes_no_work(shop: Shop):
    shop.holds()
    assert not shop.run()
    assert shop.queue.history(PCID) == []


def test_the_choice_follows_the_other_work(shop: Shop):
    shop.holds(active=False)
    shop.entries += [{**shop.entries[0], "emaid": B, "defaultContract": False}]
    assert shop.run()
    assert shop.waiting() == [(INSTALL, B)]
    shop.queue.finish(shop.queue.waiting(PCID)[0], REJECTED, "the vehicle does not accept it")
    assert shop.run()
    assert shop.waiting() == [(CHOOSE, EMAID)]


def test_a_bundle_that_the_vehicle_has_refused_is_not_sent_again(shop: Shop):
    assert shop.run()
    shop.queue.finish(shop.queue.waiting(PCID)[0], REJECTED, "the vehicle does not accept it")
    assert not shop.run()
    shop.pulled = MESSAGE + b"another"
    assert shop.run()


def test_a_bundle_that_the_maker_has_refused_is_sent_when_its_checks_pass(shop: Shop):
    assert shop.run()
    shop.queue.finish(shop.queue.waiting(PCID)[0], REJECTED, "path: no such root")
    assert shop.run()


@pytest.mark.parametrize(
    "error", [ForwardError("revoked", "a certificate"), OpcpError("refused", "404", 404)]
)
def test_a_contract_that_cannot_be_forwarded_makes_no_work(shop: Shop, error: Exception):
    shop.pulled = error
    assert not shop.run()
    assert shop.waiting() == []


def test_an_event_during_the_comparison_wins(shop: Shop):
    shop.meanwhile = lambda: shop.queue.settle("1", "", (PCID, EMAID, REMOVE, b""))
    assert shop.run()
    assert shop.waiting() == [(REMOVE, EMAID)]


def test_an_event_after_the_comparison_installs_nothing_twice(shop: Shop):
    assert shop.run()
    shop.queue.settle("1", "", (PCID, EMAID, INSTALL, MESSAGE))
    (work,) = shop.queue.history(PCID)
    shop.queue.finish(work, DONE)
    shop.queue.settle("2", "", (PCID, EMAID, INSTALL, MESSAGE))
    assert len(shop.queue.history(PCID)) == 1


def test_a_contract_that_ends_in_the_pool_alone_is_removed(shop: Shop):
    shop.holds()
    assert not shop.run()
    shop.entries = []
    assert shop.run()
    assert shop.waiting() == [(REMOVE, EMAID)]


def test_lost_keys_and_unknown_contracts_are_told_once(shop: Shop):
    shop.holds(lost=True)
    shop.held += [held("GBOCTC1234ABCDJ")]
    for _ in range(3):
        shop.run()
    assert [(event.name, event.text) for event in shop.health.events] == [
        ("lost", EMAID),
        ("unknown", "GBOCTC1234ABCDJ"),
    ]
    shop.holds()
    shop.run()
    shop.holds(lost=True)
    shop.run()
    assert [event.name for event in shop.health.events][2:] == ["lost"]


@pytest.mark.parametrize("damage", [{"emaid": "?"}, {"contractCertificate": "AAAA"}])
def test_an_entry_that_cannot_be_read_changes_nothing(shop: Shop, damage: dict[str, str]):
    shop.entries = [{**shop.entries[0], **damage}]
    with pytest.raises(OpcpError, match="answer"):
        shop.run()
    assert shop.queue.history(PCID) == []
