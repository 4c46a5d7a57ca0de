"""A partner's vehicle stays here, with its contracts, until the partner itself has answered that
it is gone: a fault of a link is no such answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.pools import Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.ecosystem.links import Links
from plugvault.federation.clients import Link
from plugvault.federation.peers import Federation
from plugvault.pools import pcp, peers
from plugvault.roles.client import OpcpClient
from world import PCID

NAME = "irdeto"
LINK = Link("c", "s", "https://there.example")
OTHER = Link("c", "s", "https://elsewhere.example")
UNREADABLE = Link("c", "s", "https://there.example", "no certificate")


class Partner:
    """It has no vehicle any more. `asked`: the number of questions to it."""

    def __init__(self) -> None:
        self.asked = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def request(self, *_: object, **__: object) -> SimpleNamespace:
        self.asked += 1
        self.meanwhile()
        return SimpleNamespace(status_code=404, is_success=False)

    def close(self) -> None:
        pass


@pytest.fixture
def partner(monkeypatch: pytest.MonkeyPatch) -> Partner:
    there = Partner()
    open_link = Link.open

    def open_there(link: Link) -> Any:
        open_link(link).close()
        return there

    monkeypatch.setattr(Link, "open", open_there)
    return there


@pytest.fixture
def shared(pools: Pools) -> Pools:
    """Pools with the copy of a partner's vehicle, and a contract for it."""
    with pools.store.write() as records:
        peers.apply(records, NAME, LINK.audience, "c", "test", pools.now)
        peers.move(records, NAME, peers.AUDITED, "test", pools.now)
        peers.move(records, NAME, peers.ACTIVE, "test", pools.now)
        leaf, sub2, sub1 = pools.provisioning().chain
        pcp.adopt(records, NAME, leaf, sub2, sub1, pools.now)
    pools.put()
    return pools


@contextmanager
def opened(pools: Pools, links: Mapping[str, Link]) -> Iterator[Federation]:
    with closing(Federation(pools.store, links, lambda: pools.now)) as federation:
        yield federation


def origin(pools: Pools) -> str | None:
    """The origin of the vehicle, None when it is deleted."""
    with pools.store.read() as records:
        vehicle = records.vehicles.get(PCID, ISO2)
    return vehicle.origin if vehicle else None


def test_a_vehicle_goes_when_its_partner_has_answered_that_it_is_gone(
    shared: Pools, partner: Partner
):
    with opened(shared, {NAME: LINK}) as federation:
        federation.refresh_vehicle(PCID)
    assert partner.asked == 1
    assert origin(shared) is None
    assert shared.contract() is None


@pytest.mark.parametrize(
    "links", [{NAME: UNREADABLE}, {"another": LINK}], ids=["unreadable", "missing"]
)
def test_a_vehicle_stays_without_a_usable_link(
    shared: Pools, partner: Partner, links: dict[str, Link]
):
    with opened(shared, links) as federation:
        for _ in range(2):
            federation.refresh_vehicle(PCID)
    assert partner.asked == 0
    assert origin(shared) == NAME
    assert shared.contract()


@pytest.mark.parametrize("new", [UNREADABLE, None], ids=["unreadable", "removed"])
def test_a_link_that_was_usable_is_not_used_after_its_change(
    shared: Pools, partner: Partner, new: Link | None
):
    links = {NAME: LINK, "another": OTHER}
    with opened(shared, links) as federation:
        assert not federation.fetch_roots()
        assert partner.asked == 1
        links.pop(NAME)
        if new:
            links[NAME] = new
        federation.refresh_vehicle(PCID)
    assert partner.asked == 1
    assert origin(shared) == NAME


@pytest.mark.parametrize("before", [None, OTHER], ids=["first use", "changed"])
def test_a_vehicle_stays_while_another_call_opens_the_link(
    shared: Pools, partner: Partner, monkeypatch: pytest.MonkeyPatch, before: Link | None
):
    """The second call waits for the client, and asks: the partner still has the vehicle."""
    open_link, is_opening, goes_on = Link.open, threading.Event(), threading.Event()
    answer: Any = object()
    monkeypatch.setattr(Federation, "_copy", lambda *_: partner.request() and answer)

    def slow(link: Link) -> OpcpClient:
        if link == LINK:
            is_opening.set()
            goes_on.wait(30)
        return open_link(link)

    monkeypatch.setattr(Link, "open", slow)
    links = {NAME: before or LINK}
    with opened(shared, links) as federation, ThreadPoolExecutor(2) as calls:
        if before:
            federation.refresh_vehicle(PCID)
            links[NAME] = LINK
        asked = partner.asked
        first = calls.submit(federation.refresh_vehicle, PCID)
        assert is_opening.wait(30)
        second = calls.submit(federation.refresh_vehicle, PCID)
        threading.Timer(0.3, goes_on.set).start()
        for call in (first, second):
            call.result(30)
    assert partner.asked == asked + 2
    assert origin(shared) == NAME


def damaged(file: Path) -> None:
    file.write_text("{", encoding="utf-8")


def unreadable(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize("damage", [damaged, unreadable])
def test_a_damaged_file_of_links_keeps_all_vehicles_and_is_told_seldom(
    shared: Pools,
    partner: Partner,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
):
    damage(tmp_path / "partners.json")
    with opened(shared, Links(tmp_path)) as federation:
        assert federation.linked  # a request may have to wait, as with a link
        for _ in range(3):
            federation.refresh_vehicle(PCID)
            assert federation.install(b"request", []) is None
            assert not federation.fetch_roots()
    assert origin(shared) == NAME
    assert shared.contract()
    assert len(caplog.messages) == 1
    assert f"a partner cannot be asked: {NAME}: " in caplog.text
    assert str(tmp_path / "partners.json") in caplog.text


def test_a_mended_file_of_links_is_used(shared: Pools, partner: Partner, tmp_path: Path):
    file = tmp_path / "partners.json"
    damaged(file)
    with opened(shared, Links(tmp_path)) as federation:
        federation.refresh_vehicle(PCID)
        file.unlink()
        Links(tmp_path).save({NAME: LINK})
        federation.refresh_vehicle(PCID)
    assert partner.asked == 1
    assert origin(shared) is None


def test_a_vehicle_that_its_maker_stores_here_meanwhile_stays(shared: Pools, partner: Partner):
    """The partner no longer has it, because its maker has moved to this ecosystem."""
    partner.meanwhile = shared.register
    with opened(shared, {NAME: LINK}) as federation:
        federation.refresh_vehicle(PCID)
    assert origin(shared) == ""
    assert shared.contract()
