"""The second writer stops between its reads and its writes: each operation of the pools decides by
the result of the writer before it, and not by the state at its own start.

PostgreSQL alone lets two write at once. The first has changed something and has not committed;
the second is started, and goes on when the first has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fixtures.pools import MAKER, OPERATOR, SIGNING, Pools, authority
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import bundle
from plugvault.net import Outbound
from plugvault.pools import (
    ccp,
    changes,
    cleansing,
    clients,
    cps,
    events,
    installation,
    pcp,
    peers,
    providers,
    rcp,
    registry,
    scopes,
    vehicle_request,
    webhooks,
)
from plugvault.pools.caller import ADMIN, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import ISO2, Delivery, Endpoint, Provider, Root, Seen
from plugvault.pools.repositories import Records
from plugvault.store import SqlStore
from world import DAY, EMAID, NOW, PCID, World, root

OTHER, NEW = PCID[:-1] + "2", PCID[:-1] + "7"
SECOND = "DEPVTC00000017"
ANN, BEN, CY = (Caller(name, frozenset({ADMIN}), client_id=name) for name in ("Ann", "Ben", "Cy"))
LOOKING = replace(OPERATOR, client_id="operator")
SOON = NOW + 100
HOOK = webhooks.EndpointChange("https://old.example/", ["root.cert.added"])
OUTBOUND = Outbound()


class Scene:
    """The records before: a vehicle with a contract, another without, a root that ends soon, and
    a change of RCP that waits for a second person."""

    def __init__(self, pools: Pools) -> None:
        self.pools, self.store = pools, pools.store
        self.vehicle = pools.register(pools.provisioning(not_after=SOON))
        pools.register(pools.provisioning(OTHER))
        self.fresh = pools.data(SECOND)
        self.contract = pools.put(self.signed(pools.data(ends=SOON)))
        with self.store.write() as records:
            ending = root("Ending", dc="OEM", not_after=SOON).der
            self.root = rcp.put(records, ending, "OEM", NOW)
            self.change = changes.ask_add(records, ANN, root("New").der, "V2G", NOW)
            peers.apply(records, "south", "https://south.example", "s", "Ann", NOW)
            providers.enter(records, ANN, "DEPVT", LOOKING.name, NOW)
            clients.register(records, LOOKING, (LOOKING.client_id, "secret"), "test", NOW)
            self.hook = webhooks.create(records, LOOKING, HOOK, OUTBOUND, NOW)
            self.puts_dead_delivery(records)
        self.wanted = root("Wanted").der

    def signed(self, data: ContractData) -> dict[str, Any]:
        """By a CPS that looks at nothing."""
        signer = self.pools.signer
        return bundle(data, signer.certificate, signer.subs, signer.sign)

    def puts(self, records: Records, data: ContractData, pcid: str = PCID) -> None:
        ccp.put(records, SIGNING, self.signed(data), pcid, NOW)

    def registers(self, records: Records, pcid: str = PCID, **changes: Any) -> None:
        leaf, sub2, sub1 = self.pools.provisioning(pcid, **changes).chain
        pcp.put(records, MAKER, leaf, sub2, sub1, NOW)

    def adopts(self, records: Records) -> None:
        leaf, sub2, sub1 = self.pools.provisioning(NEW, key=new_key()).chain
        pcp.adopt(records, "irdeto", leaf, sub2, sub1, NOW)

    def generates(self, records: Records) -> None:
        mo, signers = authority(self.pools.world.mo_sub2), [self.pools.signer]
        begins, ends = NOW, NOW + DAY
        cps.generate(records, OPERATOR, signers, mo, SECOND, PCID, NOW, begins=begins, ends=ends)

    def installs(self, records: Records) -> None:
        request = vehicle_request.read_request(self.pools.request(self.vehicle.certificate))
        installation.install(records, request, PCID, NOW)

    def guesses(self, records: Records) -> None:
        for _ in range(registry.TRIES):
            registry._judge(records, LOOKING, "plate", "XY1", b"", NOW)

    def hooks(self, records: Records) -> Endpoint:
        return webhooks.create(records, LOOKING, HOOK, OUTBOUND, NOW)

    def moves(self, records: Records, url: str = "https://new.example/") -> None:
        change = replace(HOOK, url=url)
        webhooks.update(records, LOOKING, self.hook.endpoint_id, change, OUTBOUND)

    def is_gone(self, records: Records) -> None:
        """A delivery to the endpoint that has learnt that the receiver is gone."""
        scopes.lock_endpoint(records, self.hook.endpoint_id)
        webhooks.disable(records, self.hook.endpoint_id, HOOK.url)

    def puts_dead_delivery(self, records: Records) -> None:
        told = events.publish(records, "root.cert.added", events.EVERYONE, {}, NOW)
        records.deliveries.put(Delivery(told.event_id, self.hook.endpoint_id, "", "dead"))

    def replays(self, records: Records) -> int:
        return webhooks.replay(records, LOOKING, self.hook.endpoint_id, NOW)

    def deliveries(self) -> int:
        with self.store.read() as records:
            return len(records.deliveries.of_endpoint(self.hook.endpoint_id, None, 10))

    def deliveries_after_cleansing(self) -> int:
        cleansing.cleanse(self.store, NOW)
        return self.deliveries()

    def unhooks(self, records: Records) -> None:
        webhooks.delete(records, LOOKING, self.hook.endpoint_id)

    def hook_now(self) -> tuple[str, str, bool] | None:
        """URL, scopes and state of the endpoint."""
        endpoint = self.endpoint()
        return (endpoint.url, endpoint.scopes, endpoint.enabled) if endpoint else None

    def endpoint(self) -> Endpoint | None:
        with self.store.read() as records:
            return records.endpoints.get(self.hook.endpoint_id)

    def listening(self) -> int:
        """The number of webhooks that get the events of the identifier."""
        with self.store.read() as records:
            return len(records.endpoints.listening("DEPVT"))

    def contracts(self) -> list[str]:
        with self.store.read() as records:
            return [contract.emaid for contract in records.contracts.of_vehicle(PCID, ISO2)]

    def origin(self) -> str:
        with self.store.read() as records:
            vehicle = records.vehicles.get(NEW, ISO2)
        assert vehicle
        return vehicle.origin

    def waiting(self) -> int:
        with self.store.read() as records:
            return sum(change.state == changes.PENDING for change in records.changes.all())


WANTED = root("Wanted too").der

Act = Callable[[Scene, Records], Any]
Check = Callable[[Scene, Any], bool]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def says(reason: str, words: str = "") -> Check:
    return lambda _, end: isinstance(end, PoolError) and end.reason == reason and words in str(end)


def ends_contract(_: Scene, records: Records) -> None:
    ccp.delete(records, OPERATOR, EMAID, NOW)


def renews_contract(scene: Scene, records: Records) -> None:
    scene.puts(records, scene.pools.data())


def gives_another(scene: Scene, records: Records) -> None:
    scene.puts(records, scene.fresh)


def ends_vehicle(_: Scene, records: Records) -> None:
    pcp.delete(records, MAKER, PCID, NOW)


def ends_root(scene: Scene, records: Records) -> None:
    rcp.delete(records, scene.root.root_id, NOW, who="Ada")


def loses_identifier(_: Scene, records: Records) -> Provider:
    return providers.enter(records, ANN, "DEPVT", "Another", NOW)


def registers_client(_: Scene, records: Records) -> None:
    clients.register(records, LOOKING, ("second", "secret"), "test", NOW)


# The work of the first writer, that of the second, and the outcome of the second.
CASES: dict[str, tuple[Act, Act, Check]] = {
    "pcp.put": (
        gives_another,
        lambda scene, records: scene.registers(records, key=new_key()),
        lambda scene, _: scene.contracts() == [],
    ),
    "pcp.adopt": (
        lambda scene, records: scene.registers(records, NEW),
        lambda scene, records: scene.adopts(records),
        lambda scene, _: scene.origin() == "",
    ),
    "pcp.delete": (ends_vehicle, ends_vehicle, says("not-found")),
    "pcp.reset": (
        ends_vehicle,
        lambda _, records: pcp.reset(records, MAKER, PCID, NOW),
        says("not-found"),
    ),
    "pcp.remove": (
        gives_another,
        lambda scene, records: pcp.remove(records, scene.vehicle, NOW),
        lambda scene, _: scene.contracts() == [],
    ),
    "cps.find_place": (
        lambda scene, records: scene.puts(records, scene.fresh, OTHER),
        lambda scene, records: scene.generates(records),
        says("invalid", "Invalid Tupple"),
    ),
    "envelopes.take": (
        lambda scene, records: scene.puts(records, scene.fresh, OTHER),
        lambda scene, records: scene.puts(
            records, replace(scene.pools.data(), dh_point=scene.fresh.dh_point)
        ),
        says("conflict"),
    ),
    "rcp.put": (
        lambda scene, records: rcp.put(records, scene.wanted, "V2G", NOW),
        lambda scene, records: rcp.put(records, scene.wanted, "V2G", NOW),
        lambda _, end: isinstance(end, Root),
    ),
    "rcp.delete": (ends_root, ends_root, says("not-found")),
    "installation.install": (
        ends_contract,
        lambda scene, records: scene.installs(records),
        says("not-found"),
    ),
    "ccp.delete": (ends_contract, ends_contract, says("not-found")),
    "ccp.set_default": (
        ends_contract,
        lambda _, records: ccp.set_default(records, MAKER, PCID, EMAID),
        says("not-found"),
    ),
    "ccp.mark_delivered": (
        renews_contract,
        lambda scene, records: ccp.mark_delivered(records, scene.contract, NOW),
        lambda scene, _: getattr(scene.pools.contract(), "delivered", 0) is None,
    ),
    "changes.ask_add": (
        lambda scene, records: changes.ask_add(records, ANN, scene.wanted, "V2G", NOW),
        lambda scene, records: changes.ask_add(records, BEN, scene.wanted, "V2G", NOW),
        lambda scene, _: scene.waiting() == 2,
    ),
    "changes.refuse": (
        lambda scene, records: changes.refuse(records, BEN, scene.change.change_id, NOW),
        lambda scene, records: changes.refuse(records, CY, scene.change.change_id, NOW),
        says("invalid", "refused already"),
    ),
    "peers.apply": (
        lambda _, records: peers.apply(records, "irdeto", "https://x.example", "a", "Ann", NOW),
        lambda _, records: peers.apply(records, "irdeto", "https://y.example", "b", "Ben", NOW),
        says("invalid", "already"),
    ),
    "peers.move": (
        lambda _, records: peers.move(records, "south", "audited", "Ann", NOW),
        lambda _, records: peers.move(records, "south", "audited", "Ben", NOW),
        says("invalid", "south is audited"),
    ),
    "peers.adopt_root": (
        lambda scene, records: peers.adopt_root(records, "south", scene.wanted, "V2G", NOW),
        lambda _, records: peers.adopt_root(records, "south", WANTED, "V2G", NOW),
        says("invalid", "roots here already"),
    ),
    "registry.prove": (
        lambda scene, records: scene.guesses(records),
        lambda _, records: registry._judge(records, LOOKING, "plate", "XY1", b"", NOW),
        says("forbidden", "Too many"),
    ),
    "webhooks.create": (
        lambda scene, records: scene.hooks(records),
        lambda scene, records: scene.hooks(records),
        says("invalid", "endpoints already"),
    ),
    "webhooks.update": (
        lambda scene, records: scene.unhooks(records),
        lambda scene, records: scene.moves(records),
        says("not-found"),
    ),
    "webhooks.update and a gone receiver": (
        lambda scene, records: scene.is_gone(records),
        lambda scene, records: scene.moves(records),
        lambda scene, _: getattr(scene.endpoint(), "url", "") == "https://new.example/",
    ),
    "webhooks.disable": (
        lambda scene, records: scene.moves(records),
        lambda scene, records: scene.is_gone(records),
        lambda scene, end: end is None and getattr(scene.endpoint(), "enabled", False),
    ),
    "webhooks.disable of a deleted one": (
        lambda scene, records: scene.unhooks(records),
        lambda scene, records: scene.is_gone(records),
        lambda scene, end: end is None and scene.endpoint() is None,
    ),
    "webhooks.update after a lost identifier": (
        loses_identifier,
        lambda scene, records: scene.moves(records),
        lambda scene, _: scene.hook_now() == ("https://new.example/", "", True),
    ),
    "webhooks.create after a lost identifier": (
        loses_identifier,
        lambda scene, records: scene.hooks(records),
        lambda _, end: end.scopes == "",
    ),
    "webhooks.disable after a lost identifier": (
        loses_identifier,
        lambda scene, records: scene.is_gone(records),
        lambda scene, _: scene.hook_now() == (HOOK.url, "", False),
    ),
    "webhooks.delete while an event is published": (
        lambda scene, records: scene.puts_dead_delivery(records),
        lambda scene, records: scene.unhooks(records),
        lambda scene, _: scene.deliveries() == 1 and scene.deliveries_after_cleansing() == 0,
    ),
    "webhooks.replay": (
        lambda scene, records: scene.unhooks(records),
        lambda scene, records: scene.replays(records),
        says("not-found"),
    ),
    "providers.enter after webhooks.create": (
        lambda scene, records: scene.hooks(records),
        loses_identifier,
        lambda scene, _: scene.listening() == 0,
    ),
    "providers.enter after webhooks.update": (
        lambda scene, records: scene.moves(records),
        loses_identifier,
        lambda scene, _: scene.hook_now() == ("https://new.example/", "", True),
    ),
    "providers.enter after webhooks.delete": (
        lambda scene, records: scene.unhooks(records),
        loses_identifier,
        lambda scene, end: isinstance(end, Provider) and scene.hook_now() is None,
    ),
    "providers.enter after webhooks.disable": (
        lambda scene, records: scene.is_gone(records),
        loses_identifier,
        lambda scene, _: scene.hook_now() == (HOOK.url, "", False),
    ),
    "clients.register": (loses_identifier, registers_client, says("forbidden")),
    "cleansing of vehicles": (
        lambda scene, records: scene.registers(records),
        lambda _, records: cleansing._vehicles(records, SOON + 1, 10),
        lambda scene, end: end == 0 and scene.contracts() == [EMAID],
    ),
    "cleansing of contracts": (
        renews_contract,
        lambda _, records: cleansing._contracts(records, SOON + 1, 10),
        lambda scene, end: end == 0 and scene.contracts() == [EMAID],
    ),
    "cleansing of roots": (
        ends_root,
        lambda scene, _: cleansing._roots(scene.store, SOON + 1),
        lambda _, end: end == 0,
    ),
}


def stops(url: str, second: Future[Any]) -> None:
    """Returns when the second writer waits for the first; or has ended, and has not waited."""
    waiting = """SELECT 1 FROM pg_locks JOIN pg_database ON database = pg_database.oid
        WHERE NOT granted AND datname = current_database()"""
    with psycopg.connect(url, autocommit=True) as looking:
        while not (second.done() or looking.execute(waiting).fetchall()):
            time.sleep(0.002)


@pytest.mark.parametrize("case", CASES)
def test_the_second_writer_decides_by_the_result_of_the_first(
    case: str,
    postgresql_url: str,
    open_store: Callable[[str], SqlStore],
    pool_world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "MOST", 1)
    monkeypatch.setattr(webhooks, "MOST", 2)
    first, second, check = CASES[case]
    scene = Scene(Pools(open_store(postgresql_url), pool_world))

    def acts() -> Any:
        try:
            with scene.store.write() as records:
                return second(scene, records)
        except PoolError as error:
            return error

    with ThreadPoolExecutor(1) as thread:
        with scene.store.write() as records:
            first(scene, records)
            records.clients.all()  # so that all before it has been said
            running = thread.submit(acts)
            stops(postgresql_url, running)
        end = running.result()
    assert check(scene, end), end


def test_of_two_unlocked_writers_only_one_records_a_dh_point(
    postgresql_url: str, open_store: Callable[[str], SqlStore]
) -> None:
    """The database enforces it, without any earlier check."""
    store, ends = open_store(postgresql_url), []

    def adds(holds: bytes) -> None:
        with store.write() as records:
            records.seen.add([Seen(b"mark", holds, b"key", NOW)])

    with ThreadPoolExecutor(1) as thread:
        with store.write() as records:
            records.seen.add([Seen(b"mark", b"first", b"key", NOW)])
            records.clients.all()
            running = thread.submit(adds, b"second")
            stops(postgresql_url, running)
        ends.append(running.exception())
    assert isinstance(ends[0], PoolError)
    with store.read() as records:
        assert [row.holds for row in records.seen.known([b"mark"])] == [b"first"]
