"""A charge point operator: its stations announced, certified and renewed, and its own view."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evcc import chain
from fixtures.backend import Backend
from plugvault.cli.app import main
from plugvault.pki import path
from plugvault.pools.caller import CPO, Caller
from plugvault.roles.client import OpcpClient, OpcpError
from plugvault.roles.cpo import ChargePointOperator, StationEntry


def station(number: int, operator: str = "PVC") -> StationEntry:
    name = f"DE*{operator}*E{number:06}"
    return StationEntry(name, (name, name + "*2"), "Example", "Charger", "1.0", f"SN{number}")


def request(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    named = ((NameOID.ORGANIZATION_NAME, "Example CPO"), (NameOID.COMMON_NAME, name))
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in named])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_station_is_announced_certified_and_renewed(backend: Backend):
    cpo, new = backend.ecosystem.cpo, station(700_001)
    cpo.announce(new)
    assert new in cpo.stations()
    first, subs = cpo.enrol(request(new.name))
    second, _ = cpo.renew(request(new.name))
    for leaf in (first, second):
        anchors = [backend.ecosystem.v2g_root]
        path.validate(leaf, subs, anchors, chain.CPO, backend.clock())
        assert path.read(leaf).names["CN"] == new.name
    assert path.read(first).point != path.read(second).point


def test_a_second_announcement_replaces_the_first(backend: Backend):
    cpo, new = backend.ecosystem.cpo, station(700_002)
    cpo.announce(new)
    changed = StationEntry(new.name, new.evse_ids, software="2.0")
    cpo.announce(changed)
    assert [entry for entry in cpo.stations() if entry.name == new.name] == [changed]


def test_another_operators_station_is_refused(backend: Backend):
    cpo, foreign = backend.ecosystem.cpo, station(1, "XXX")
    for call in (
        lambda: cpo.announce(foreign),
        lambda: cpo.enrol(request(foreign.name)),
        lambda: cpo.renew(request(foreign.name)),
    ):
        with pytest.raises(OpcpError) as caught:
            call()
        assert caught.value.status == 403


def test_an_operator_sees_its_own_stations_only(backend: Backend):
    world = backend.ecosystem
    world.cpo.announce(station(700_003))
    rival = Caller("Rival CPO", frozenset({CPO}), operators=frozenset({"DEXXX"}))
    with OpcpClient(world.url, world.register(rival)) as client:
        assert ChargePointOperator(client).stations() == []


def test_a_station_without_credentials_is_told_which_ones_it_needs(
    backend: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLUGVAULT_CLIENT_ID", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["station", "--interface", "lo", "--sandbox", backend.ecosystem.url])
    assert ended.value.code == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "set PLUGVAULT_CLIENT_ID and PLUGVAULT_CLIENT_SECRET to the CPO's credentials" in text
