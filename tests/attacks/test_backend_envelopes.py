"""The envelope oracle with an honest CPS's help: a rival operator has the victim's DH point signed
once more, with a bit of the victim's envelope flipped and a certificate for a key to match.

Installed or not would tell the bit. The points P and -P give one secret.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi
from fixtures.backend import ISO2, Backend, b64, refused
from fixtures.pools import MAKER, OPERATOR, SIGNING, Pools, authority
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2 import response, xml
from plugvault.contract.iso15118_2.bundle import bundle
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.opcp import cps as opcp_cps
from plugvault.pki import path
from plugvault.pools import ccp, cps, envelopes, pcp, rcp
from plugvault.pools.caller import MO_EXTERNAL_PKI, PEER, Caller
from plugvault.pools.cleansing import cleanse
from plugvault.pools.contracts import SignedContract
from plugvault.pools.errors import PoolError
from plugvault.pools.repositories import Records
from world import CONTRACT_USAGE, DAY, EMAID, NOW, PCID, point, root

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
RIVALS = "FRXYZC00000001"
RIVAL = Caller("rival", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"FRXYZ"}))
PARTNER = Caller("partner", frozenset({PEER}))
POINT, KEY = "^conflict: dHpublickey :", "^conflict: contractCertificate :"


def negated(point: bytes) -> bytes:
    return point[:33] + (P - int.from_bytes(point[33:], "big")).to_bytes(32, "big")


def moved(at: bytes, bit: int) -> bytes:
    """The point and 2^bit times the generator."""
    step = point(ec.derive_private_key(1 << bit, ec.SECP256R1()))
    (x1, y1), (x2, y2) = (
        (int.from_bytes(encoded[1:33], "big"), int.from_bytes(encoded[33:], "big"))
        for encoded in (at, step)
    )
    slope = (y2 - y1) * pow(x2 - x1, -1, P) % P
    x = (slope * slope - x1 - x2) % P
    y = (slope * (x1 - x) - y1) % P
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def flipped(wrapped: bytes, bit: int) -> bytes:
    """With this bit of the IV the other way round, and so that of the key's upper half."""
    return (int.from_bytes(wrapped, "big") ^ 1 << 8 * 32 + bit).to_bytes(len(wrapped), "big")


def question(pools: Pools, victims: ContractData, bit: int, **changes: Any) -> ContractData:
    """The rival's request for one bit, with its own operator's certificate for P'."""
    to_match = moved(path.read(victims.certificate).point, 128 + bit)
    leaf = pools.world.new_contract(RIVALS, public_key=to_match, **changes)
    changed = {"emaid": RIVALS, "certificate": leaf.der, "wrapped": flipped(victims.wrapped, bit)}
    return replace(victims, **changed)


def others(pools: Pools, victims: ContractData) -> dict[str, tuple[str, ContractData]]:
    """All that is not exactly the victim's bundle."""
    asked_bundle = question(pools, victims, 0)
    fresh = pools.data(RIVALS)
    renewed = pools.world.new_contract(EMAID, public_key=path.read(victims.certificate).point)
    stolen = pools.world.new_contract(RIVALS, public_key=path.read(victims.certificate).point)
    return {
        "a question": (POINT, asked_bundle),
        "another": (POINT, question(pools, victims, 127)),
        "with -P": (POINT, replace(asked_bundle, dh_point=negated(victims.dh_point))),
        "a contract of its own": (POINT, replace(fresh, dh_point=victims.dh_point)),
        "another envelope": (POINT, replace(victims, wrapped=flipped(victims.wrapped, 0))),
        "another certificate": (POINT, replace(victims, certificate=renewed.der)),
        "the same with -P": (POINT, replace(victims, dh_point=negated(victims.dh_point))),
        "the victim's key": (KEY, replace(fresh, certificate=stolen.der)),
    }


Way = Callable[[Pools, ContractData], Any]


def signs(pools: Pools, data: ContractData, pcid: str | None, caller: Caller) -> None:
    with pools.store.write() as records:
        signed = cps.sign(records, caller, [pools.signer], data, pcid, pools.now)
        ccp.keep(records, signed, pools.now)


def unchecked_bundle(pools: Pools, data: ContractData) -> dict[str, Any]:
    """Return the bundle of a CPS that checks nothing."""
    return bundle(data, pools.signer.certificate, pools.signer.subs, pools.signer.sign)


def puts(pools: Pools, data: ContractData, caller: Caller) -> None:
    with pools.store.write() as records:
        ccp.put(records, caller, unchecked_bundle(pools, data), PCID, pools.now)


def passes_on(pools: Pools, data: ContractData) -> None:
    with pools.store.write() as records:
        ccp.forward(records, unchecked_bundle(pools, data), pools.now)


def owner(data: ContractData) -> Caller:
    return RIVAL if data.emaid == RIVALS else OPERATOR


WAYS: dict[str, Way] = {
    "signed for a vehicle": lambda pools, data: signs(pools, data, PCID, owner(data)),
    "only signed": lambda pools, data: signs(pools, data, None, owner(data)),
    "signed for a partner": lambda pools, data: signs(pools, data, None, PARTNER),
    "put by its operator": lambda pools, data: puts(pools, data, owner(data)),
    "put by a CPS": lambda pools, data: puts(pools, data, SIGNING),
    "passed on from a partner": passes_on,
}


@pytest.mark.parametrize("first", WAYS)
def test_cps_and_ccp_refuse_another_contracts_dh_point(pools: Pools, first: str) -> None:
    """Every first way is tried with every second way."""
    pools.register()
    victims = pools.data()
    WAYS[first](pools, victims)
    variants = others(pools, victims).items()
    for (_, again), (_, (words, data)) in product(WAYS.items(), variants):
        with pytest.raises(PoolError, match=words):
            again(pools, data)
    for again in WAYS.values():  # exactly the same
        again(pools, victims)


def test_a_refused_question_leaves_nothing(pools: Pools) -> None:
    """Otherwise the rival's second question would count as the first."""
    pools.register()
    victims = pools.data()
    WAYS["signed for a vehicle"](pools, victims)
    refused_bundle = question(pools, victims, 5)
    with pytest.raises(PoolError, match=POINT):
        WAYS["put by a CPS"](pools, refused_bundle)
    own = replace(pools.data(RIVALS), certificate=refused_bundle.certificate)
    WAYS["put by a CPS"](pools, own)  # the key was not kept as another's


def test_no_partner_is_asked_to_sign_refused_data(pools: Pools) -> None:
    pools.register()
    victims = pools.data()
    WAYS["signed for a vehicle"](pools, victims)
    with pools.store.write() as records:
        for data, refusal in ((question(pools, victims, 0), "conflict"), (victims, "invalid")):
            with pytest.raises(PoolError) as caught:
                cps.sign(records, owner(data), [], data, PCID, pools.now)
            assert caught.value.reason == refusal


def test_deleting_the_contract_frees_no_seen_value(pools: Pools) -> None:
    pools.register()
    victims = pools.data()
    WAYS["signed for a vehicle"](pools, victims)
    with pools.store.write() as records:
        ccp.delete(records, OPERATOR, EMAID, pools.now)
    cleanse(pools.store, pools.now)
    with pytest.raises(PoolError, match=POINT):
        WAYS["signed for a vehicle"](pools, question(pools, victims, 0))
    with pools.store.write() as records:
        pcp.delete(records, MAKER, PCID, pools.now)
    pools.register()
    with pytest.raises(PoolError, match=POINT):
        WAYS["signed for a vehicle"](pools, question(pools, victims, 0))
    WAYS["signed for a vehicle"](pools, victims)


def kept(pools: Pools) -> int:
    with pools.store.read() as records:
        return len(records.seen.all())


def test_seen_values_are_kept_as_long_as_the_certificate(pools: Pools) -> None:
    pools.register()
    leaf = pools.world.new_contract(EMAID, not_after=NOW + 3 * 365 * DAY)
    victims = replace(pools.data(), certificate=leaf.der)
    WAYS["only signed"](pools, victims)
    not_after = path.read(victims.certificate).not_after
    assert not_after > NOW + envelopes.LEAST
    cleanse(pools.store, not_after)
    assert kept(pools) == 2
    cleanse(pools.store, not_after + 1, batch=1)
    assert kept(pools) == 0


def test_a_certificate_that_ends_soon_gives_no_second_question(pools: Pools) -> None:
    """The rival alone has seen the victim's envelope, and chooses when its certificates end."""
    victims = pools.data()
    for bit in range(2):
        bundle_ = question(pools, victims, bit, not_after=pools.now + 60)
        if bit == 0:
            WAYS["only signed"](pools, bundle_)
            continue
        with pytest.raises(PoolError, match=POINT):
            WAYS["only signed"](pools, bundle_)
        pools.now = NOW + envelopes.LEAST
        cleanse(pools.store, pools.now)
        assert kept(pools) == 2


def test_a_renewed_key_keeps_its_first_envelope(pools: Pools) -> None:
    """The first certificate has ended, but the key in its envelope is still in use."""
    pools.register()
    long = {"not_after": NOW + 5 * 365 * DAY}
    victims = pools.data()
    WAYS["only signed"](pools, victims)
    public = path.read(victims.certificate).point
    renewed = pools.world.new_contract(EMAID, public_key=public, **long)
    WAYS["only signed"](pools, replace(pools.data(), certificate=renewed.der))
    cleanse(pools.store, NOW + envelopes.LEAST + 1)
    assert kept(pools) == 3
    with pytest.raises(PoolError, match=POINT):
        WAYS["only signed"](pools, question(pools, victims, 0))
    cleanse(pools.store, long["not_after"] + 1)
    assert kept(pools) == 0


def test_an_envelope_with_a_known_key_and_a_new_point_is_its_owners(pools: Pools) -> None:
    """A renewal, with and without the check digit of the EMAID."""
    victims = pools.data()
    WAYS["only signed"](pools, victims)
    public = path.read(victims.certificate).point
    for emaid in (EMAID, EMAID[:14]):
        renewed = pools.world.new_contract(emaid, public_key=public)
        data = replace(pools.data(), certificate=renewed.der, emaid=emaid)
        WAYS["only signed"](pools, data)


def test_seen_values_of_a_partners_signature_are_kept_too(pools: Pools) -> None:
    """The vehicle trusts no CPS of ours; the bundle is signed and not stored."""
    pools.register()
    victims = pools.data()
    message = unchecked_bundle(pools, victims)
    services: Any = SimpleNamespace(
        store=pools.store,
        clock=lambda: pools.now,
        signers=[],
        peers=SimpleNamespace(refresh_vehicle=lambda _: None, sign=lambda *_: message),
    )

    def work(records: Records, now: float) -> SignedContract:
        return cps.sign(records, OPERATOR, [], victims, PCID, now)

    for _ in range(2):
        opcp_cps._provision(services, OPERATOR, "cps.sign", work, PCID, None, stored=False)
    with pytest.raises(PoolError, match=POINT):
        WAYS["put by a CPS"](pools, question(pools, victims, 0))


class Attacked:
    """A running ecosystem with the victim's contract in it, and a rival that has an operator's
    PKI of its own, under an MO root that is in RCP."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.services = backend, backend.ecosystem._services
        now = int(self.services.clock())
        own = root("Rival MO", now, dc="MO")
        self.sub2 = own.sub("Rival Sub1", 1, dc="MO").sub("Rival Sub2", dc="MO")
        with self.services.store.write() as records:
            rcp.put(records, own.der, "MO", now)
        self.rival = backend.enter("oracle's rival", RIVAL)
        self.vehicle = backend.vehicle()
        answer = backend.sign(backend.contract_data(self.vehicle), self.vehicle.pcid)
        assert answer.status_code == 201, answer.text
        self.victims = self.recorded()

    def recorded(self) -> ContractData:
        """Return point, envelope and certificate as a station reads them."""
        answer = self.backend.install(self.vehicle.request(self.backend.ecosystem.v2g_root))
        (content,) = answer.json()["CCPResponse"]["emaidContent"]
        message = base64.b64decode(content["messageDef"]["certificateInstallationRes"])
        return response.read(exi.decode(message)).contract

    def question(self, bit: int) -> ContractData:
        to_match = moved(path.read(self.victims.certificate).point, 128 + bit)
        leaf = self.sub2.issue(
            RIVALS, dc="MO", public_key=to_match, country=None, key_usage=CONTRACT_USAGE
        )
        return ContractData(
            RIVALS,
            leaf.der,
            tuple(leaf.chain[1:]),
            flipped(self.victims.wrapped, bit),
            self.victims.dh_point,
        )

    def signs(self, data: ContractData, stored: bool) -> httpx.Response:
        sub2, sub1 = data.subs
        body = {
            "contractCertificate": b64(data.certificate),
            "contractSubCa2Certificate": b64(sub2),
            "contractSubCa1Certificate": b64(sub1),
            "contractSignatureEncryptedPrivateKey": b64(data.wrapped),
            "dHpublickey": b64(data.dh_point),
        }
        return self.backend.sign(body, self.vehicle.pcid if stored else None, self.rival)

    def puts(self, data: ContractData) -> httpx.Response:
        """Signed by a CPS that did not look."""
        (signer,) = self.services.signers
        message = bundle(data, signer.certificate, signer.subs, signer.sign)
        body = {
            "xsdMsgDefNamespace": ISO2,
            "emaid": data.emaid,
            "pcid": self.vehicle.pcid,
            "signedContractDataXML": b64(xml.write(message)),
        }
        return self.backend.ask(self.rival, "PUT", "/v1/ccp/signedContractData", json=body)

    def fresh(self) -> ContractData:
        """An honest contract of the rival's."""
        now = self.services.clock()
        return issue_contract(RIVALS, self.vehicle.leaf, authority(self.sub2), now)


def test_a_rival_operator_learns_nothing_with_our_cpss_help(backend: Backend) -> None:
    attacked = Attacked(backend)
    words = "^dHpublickey : was used for another contract or another envelope$"
    for bit in (0, 1, 64, 127):
        bundle_ = attacked.question(bit)
        refused(attacked.signs(bundle_, stored=True), 409, words)
        refused(attacked.signs(bundle_, stored=False), 409, words)
        refused(attacked.puts(bundle_), 409, words)
    assert attacked.recorded() == attacked.victims  # a station still gets the victim's
    assert attacked.signs(attacked.fresh(), stored=True).status_code == 201
    assert attacked.puts(attacked.fresh()).status_code == 201
