"""A vehicle's list of roots: the pools find the root in each spelling, and no ambiguous one."""

from __future__ import annotations

import json
import logging

import pytest

from evcc import x509
from fixtures.pools import Pools
from plugvault.pools import events, installation, listed_roots, rcp
from plugvault.pools.errors import WithheldError
from plugvault.pools.listed_roots import AmbiguousError, ListedRoot
from world import EMAID, NOW, Issued, root

Identifiers = list[tuple[str, int]]
SERIAL = 4711


def added(
    pools: Pools, name: str, organisation: str = "Plug Test", serial: int = SERIAL
) -> Issued:
    new = root(name, serial=serial, organisation=organisation)
    with pools.store.write() as records:
        rcp.put(records, new.der, "V2G", NOW)
    return new


def find(pools: Pools, wanted: Issued, identifiers: Identifiers) -> ListedRoot | None:
    with pools.store.read() as records:
        stored = records.roots.by_fingerprint(x509.fingerprint(wanted.der).hex())
        assert stored
        return listed_roots.find(records, stored, identifiers)


def test_the_serial_number_is_compared_exactly(pools: Pools):
    wanted = added(pools, "Root A")
    name = "CN=Root A,O=Plug Test,C=DE,DC=V2G"
    assert find(pools, wanted, [(name, SERIAL)]) == ListedRoot(name, frozenset())
    for serial in (SERIAL + 1, -SERIAL, 0, SERIAL << 64):
        assert find(pools, wanted, [(name, serial)]) is None


def test_the_name_with_the_fewest_tolerances_is_taken(pools: Pools):
    wanted = added(pools, "Root A")
    names = ["Root A", "CN=root a", "CN=Root A", "/CN=Root A/O=Plug Test/C=DE/DC=V2G"]
    for count in range(len(names)):
        listed = find(pools, wanted, [(name, SERIAL) for name in names[: count + 1]])
        assert listed
        assert listed.name == ("Root A", "Root A", "CN=Root A", names[3])[count]


def test_a_partial_name_of_two_roots_names_neither(pools: Pools):
    first = added(pools, "Root A", "One")
    second = added(pools, "Root A", "Two")
    for wanted in (first, second):
        with pytest.raises(AmbiguousError, match="may be any of"):
            find(pools, wanted, [("CN=Root A", SERIAL)])
        with pytest.raises(AmbiguousError):
            find(pools, wanted, [("CN=root a", SERIAL)])
    assert find(pools, first, [("CN=Root A,O=One", SERIAL)])
    assert find(pools, second, [("CN=Root A,O=One", SERIAL)]) is None
    assert find(pools, first, [("CN=Root A", SERIAL), ("CN=Root A,O=One", SERIAL)])


def test_a_name_that_is_nearer_to_another_root_is_that_roots(pools: Pools):
    lower, upper = added(pools, "root a"), added(pools, "ROOT A")
    name = "CN=root a,O=Plug Test,C=DE,DC=V2G"
    assert find(pools, lower, [(name, SERIAL)]) == ListedRoot(name, frozenset())
    assert find(pools, upper, [(name, SERIAL)]) is None
    with pytest.raises(AmbiguousError):
        find(pools, lower, [(name.replace("root", "Root"), SERIAL)])


def test_a_name_without_end_is_not_read(pools: Pools):
    wanted = added(pools, "Root A")
    name = "CN=Root A,O=Plug Test,C=DE,DC=V2G" + " " * 3000
    assert find(pools, wanted, [(name, SERIAL)]) is None


# A vehicle's request


def renamed(pools: Pools, name: str) -> bytes:
    """A signed request that names the V2G root like this."""
    return pools.request(pools.provisioning_der(), root_name=name)


@pytest.fixture
def filled(pools: Pools) -> Pools:
    pools.register()
    pools.put()
    return pools


def told(pools: Pools, kind: str) -> list[dict[str, str]]:
    with pools.store.read() as records:
        return [
            json.loads(event.payload)
            for event in records.events.since(0, [events.ADMINISTRATORS], 100)
            if event.kind == kind
        ]


def test_a_tolerated_name_installs_and_is_told_once(
    filled: Pools, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    name = "<Name(C=DE,O=Plug Test,CN=V2G Root,DC=V2G)>"
    for _ in range(2):
        assert filled.install(renamed(filled, name)).emaid == EMAID
    (payload,) = told(filled, events.TOLERATED)
    assert (payload["emaid"], payload["rootName"]) == (EMAID, name)
    assert payload["tolerances"] == ["repr"]
    assert caplog.text.count("tolerated repr") == 2


def test_a_name_of_the_standard_is_not_told(filled: Pools, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert filled.install(renamed(filled, "DC=V2G,C=DE,O=Plug Test,CN=V2G Root")).emaid == EMAID
    assert told(filled, events.TOLERATED) == []
    assert "tolerated" not in caplog.text


def test_an_ambiguous_name_installs_nothing_and_the_cause_is_told(filled: Pools):
    serial = filled.world.v2g_root.certificate.serial_number
    added(filled, "V2G Root", "Other", serial)
    with pytest.raises(WithheldError) as caught:
        filled.install(renamed(filled, "CN=V2G Root"))
    assert caught.value.cause == "root-ambiguous"
    assert caught.value.detail == installation.NOTHING
    assert filled.install(renamed(filled, "CN=V2G Root,O=Plug Test")).emaid == EMAID
