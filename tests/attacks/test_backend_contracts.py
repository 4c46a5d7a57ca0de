"""Attacks on contracts on their way from operator to vehicle: another operator's EMAID, an EMAID
in disguise, an unsigned request, a key that comes twice or stays behind, two writers at once,
a CPS that signs what it should not.
"""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bundles import PUBLISHED_NEGATIVE, opened
from evcc import exi
from evcc.check_digit import emaid_check_digit
from fixtures.backend import Backend
from fixtures.pools import OPERATOR, OTHER_OPERATOR, Pools, authority
from plugvault.contract.iso15118_2 import issue as contract_issue
from plugvault.contract.iso15118_2 import response
from plugvault.opcp import cps as opcp_cps
from plugvault.opcp.contract_data import SignRequest
from plugvault.opcp.fields import encode
from plugvault.pki import path
from plugvault.pools import ccp, cps
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract
from world import EMAID, PCID, point, root

OTHER = PCID[:-1] + "2"  # a second vehicle
BARE = "DEPVTC0000007"  # a customer, without serial character and check digit
WRITERS = 8


def refused(reason: str, words: str, call: Callable[..., Any], *args: Any, **options: Any) -> None:
    with pytest.raises(PoolError, match=words) as caught:
        call(*args, **options)
    assert caught.value.reason == reason


def everything(pools: Pools) -> list[Contract]:
    with pools.store.read() as records:
        return list(records.contracts.of_provider("DEPV", 100))


def provision(pools: Pools, emaid: str, pcid: str = PCID) -> None:
    """The work of `PUT /v1/cps/contractData/signed`, with data made beforehand."""
    data = pools.data(emaid)
    with pools.store.write() as records:
        signed = cps.sign(records, OPERATOR, [pools.signer], data, pcid, pools.now)
        ccp.keep(records, signed, pools.now)


def concurrently(calls: list[Callable[[], Any]]) -> list[Any]:
    """Return the result of each call, or the PoolError it raises."""

    def run(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except PoolError as error:
            return error

    with ThreadPoolExecutor(WRITERS) as threads:
        return list(threads.map(run, calls))


# 55


def test_mo_of_other_provider_cannot_update_emaid(pools: Pools) -> None:
    """Not sign, not bring, not end; nor make under the ecosystem's MO CA."""
    pools.register()
    contract = pools.put()
    message = pools.foreign(pools.signer)
    hosted = authority(pools.world.mo_sub2)
    validity = {"begins": pools.now, "ends": pools.now + 1000}
    with pools.store.write() as records:
        now, signers = pools.now, [pools.signer]
        for call, args, options in (
            (cps.sign, (signers, pools.data(), PCID, now), {}),
            (cps.sign, (signers, pools.data(), None, now), {}),
            (cps.generate, (signers, hosted, EMAID, PCID, now), validity),
            (ccp.put, (message, PCID, now), {}),
            (ccp.put, (message, PCID, now), {"emaid": EMAID}),
            (ccp.delete, (EMAID, now), {}),
            (ccp.lookup, (EMAID, now), {}),
        ):
            refused("forbidden", "provider", call, records, OTHER_OPERATOR, *args, **options)
    assert everything(pools) == [contract]


# 56


def spellings(emaid: str) -> list[str]:
    """The 14 characters in every way that people, and other machines, write them."""
    digit = emaid_check_digit(emaid)
    wrong = "0" if digit != "0" else "1"  # of others' check digits nothing is known
    joined = [emaid, emaid + digit, emaid + wrong]
    parted = [
        f"{spelling[:2]}-{spelling[2:5]}-{spelling[5:14]}-{spelling[14:]}".rstrip("-")
        for spelling in joined
    ]
    return [case for spelling in (*joined, *parted) for case in (spelling, spelling.lower())]


def test_emaid_case_and_hyphen_variants_are_one_contract(pools: Pools) -> None:
    """The check digit too: with it, without it, or with a wrong one."""
    pools.register()
    pools.register(pools.provisioning(OTHER))
    written = spellings(EMAID[:14])
    certified = [EMAID[:14], EMAID[:14] + "7", EMAID[:14] + "K"]
    for emaid in certified:
        provision(pools, emaid)
        (contract,) = everything(pools)
        assert (contract.emaid, contract.default) == (emaid, True)
        refused("invalid", "Invalid Tupple", provision, pools, EMAID[:14] + "X", OTHER)
        for spelled in written:
            with pools.store.read() as records:
                assert ccp.lookup(records, OPERATOR, spelled, pools.now) == contract
    for spelled in written:
        provision(pools, EMAID[:14])
        with pools.store.write() as records:
            ccp.delete(records, OPERATOR, spelled, pools.now)
        assert everything(pools) == []


# 58


def test_installation_req_with_bad_oem_signature_rejected(pools: Pools) -> None:
    stored = pools.register()
    pools.put()
    other_key = ec.generate_private_key(ec.SECP256R1())
    words = "signature of the certificateInstallationReq is invalid"
    assert pools.install(pools.request(stored.certificate)).emaid == EMAID
    for forged in (
        pools.request(stored.certificate, key=other_key),
        pools.request(stored.certificate, unsigned=True),
        # A good signature, by another vehicle's key, under the victim's certificate.
        pools.request(pools.provisioning(OTHER, key=other_key).der, key=pools.ecu),
    ):
        refused("invalid", words, pools.install, forged)
    # A vehicle with a certificate and signature of its own making is not found.
    own = pools.provisioning(PCID, key=other_key)
    refused("not-found", "not found", pools.install, pools.request(own.der, key=other_key))


def test_a_signed_request_cannot_be_changed(pools: Pools) -> None:
    message = exi.decode(pools.request(pools.register().certificate))
    pools.put()
    body = message["V2G_Message"]["Body"]["CertificateInstallationReq"]
    first = body["ListOfRootCertificateIDs"]["RootCertificateID"][0]
    first["X509SerialNumber"] += 1
    refused("invalid", "signature", pools.install, exi.encode(message))


# 64, 65


@pytest.fixture(scope="module")
def sealed() -> list[Any]:
    """The envelopes of operators for one and the same vehicle, contract after contract."""
    receiver = ec.generate_private_key(ec.SECP256R1()).public_key()
    return [contract_issue.seal(bytearray(range(32)), receiver) for _ in range(256)]


def test_ephemeral_key_never_reused(sealed: list[Any]) -> None:
    assert len({box.dh_point for box in sealed}) == len(sealed)


def test_contract_key_never_reused(pools: Pools) -> None:
    """One vehicle, one EMAID, one operator: another key for each contract all the same."""
    pools.register()
    contracts = [pools.data() for _ in range(32)]
    assert len({path.read(contract.certificate).point for contract in contracts}) == len(contracts)


def test_iv_never_reused(sealed: list[Any]) -> None:
    assert len({box.wrapped[:16] for box in sealed}) == len(sealed)
    assert len({box.wrapped[16:] for box in sealed}) == len(sealed)


# 66


def forms(scalar: bytes) -> list[bytes]:
    """How a key might be written down by mistake."""
    number = int.from_bytes(scalar, "big")
    hexadecimal = scalar.hex(), scalar.hex().upper(), f"{number:x}"
    texts = (
        *hexadecimal, base64.b64encode(scalar).decode(), str(number), repr(scalar)[2:-1]
    )  # fmt: skip
    return [scalar, scalar[::-1], *(text.encode() for text in texts)]


def test_contract_key_not_retained_after_wrap(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After an operator's issue, its own and the ecosystem's: no store, log or file has it."""
    caplog.set_level(logging.DEBUG)
    scalars: list[bytes] = []
    buffers: list[bytearray] = []
    real: Callable[..., Any] = contract_issue.seal

    def spy(scalar: bytearray, receiver: Any) -> Any:
        scalars.append(bytes(scalar))
        buffers.append(scalar)
        return real(scalar, receiver)

    monkeypatch.setattr(contract_issue, "seal", spy)
    world, vehicle = backend.ecosystem, backend.vehicle()
    world.mo.contract(vehicle.pcid)
    world.mo_v2g.contract(vehicle.pcid)
    assert len(scalars) == 2
    assert buffers == [bytearray(32)] * 2, "what can be overwritten is"

    listed = backend.ask("OEM", "GET", f"/v1/ccp/signedContractData/{vehicle.pcid}").json()
    for contract in listed["XMLContracts"]:
        path = f"/v1/ccp/provideSignedContractData/{contract['emaid']}/{vehicle.pcid}"
        message = base64.b64decode(
            backend.ask("OEM", "GET", path).json()["certificateInstallationRes"]
        )
        data = response.read(exi.decode(message)).contract
        # The two keys searched for below are the right ones: only the vehicle can open them.
        assert opened(data.dh_point, data.wrapped, vehicle.key) in scalars

    files = [path for path in world.directory.rglob("*") if path.is_file()]
    searched = {str(path): path.read_bytes() for path in files}
    assert any("ecosystem.sqlite" in name for name in searched)
    assert any(name.endswith(".object") for name in searched)
    with closing(sqlite3.connect(world.directory / "ecosystem.sqlite")) as database:
        # Row by row too: in its file a value may be cut by the end of a page.
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            searched[table] = repr(database.execute(f"SELECT * FROM {table}").fetchall()).encode()
    lines = [vars(record) for record in caplog.records]
    searched["the log"] = caplog.text.encode() + json.dumps(lines, default=repr).encode()
    public = base64.b64decode(listed["XMLContracts"][0]["contractCertificate"])
    assert repr(public)[2:-1].encode() in searched["contracts"], "the search itself finds things"
    for scalar in scalars:
        for form in forms(scalar):
            assert [name for name, content in searched.items() if form in content] == []


# 67


def test_concurrent_updates_yield_one_bundle(pools: Pools) -> None:
    """The same EMAID from many sides at once, in all its spellings."""
    pools.register()
    emaids = [BARE + "1", BARE + "1K"]
    calls = [lambda n=n: provision(pools, emaids[n % 2]) for n in range(WRITERS)]
    assert concurrently(calls) == [None] * WRITERS
    (contract,) = everything(pools)
    assert contract.default
    with pools.store.read() as records:
        published = Counter(event.kind for event in records.events.since(0, None, 100))
    assert (published["oem.contract.created"], published["oem.contract.updated"]) == (
        1,
        WRITERS - 1,
    )


def test_concurrent_contracts_of_a_vehicle_have_one_default(pools: Pools) -> None:
    pools.register()
    calls = [lambda n=n: provision(pools, f"{BARE}{n}") for n in range(WRITERS)]
    assert concurrently(calls) == [None] * WRITERS
    assert sorted(contract.default for contract in everything(pools)) == [False] * (
        WRITERS - 1
    ) + [True]


def test_of_two_vehicles_at_once_one_gets_the_emaid(pools: Pools) -> None:
    pools.register()
    pools.register(pools.provisioning(OTHER))
    calls = [
        lambda n=n: provision(pools, f"{BARE}1{'K' * (n // 4)}", (PCID, OTHER)[n % 2])
        for n in range(WRITERS)
    ]
    ended = concurrently(calls)
    assert ended.count(None) == WRITERS // 2
    words = {str(result) for result in ended if result}
    assert words == {"invalid: Invalid Tupple - EMAID is already used by other PCID."}
    assert len(everything(pools)) == 1


def test_no_contract_is_made_for_a_replaced_key(pools: Pools) -> None:
    """The vehicle gets a new key while the ecosystem issues contracts for it."""
    pools.register()
    new = ec.generate_private_key(ec.SECP256R1())
    renewed, hosted = pools.provisioning(key=new), authority(pools.world.mo_sub2)

    def generate(number: int) -> None:
        with pools.store.write() as records:
            signed = cps.generate(
                records, OPERATOR, [pools.signer], hosted, f"{BARE}{number}", PCID, pools.now,
                begins=pools.now, ends=pools.now + 1000,
            )  # fmt: skip
            ccp.keep(records, signed, pools.now)

    calls = [lambda n=n: generate(n) for n in range(WRITERS)]
    calls.insert(WRITERS // 2, lambda: pools.register(renewed))
    assert not [result for result in concurrently(calls) if isinstance(result, PoolError)]
    generate(9)  # at least one contract is there, in any order of the calls
    for contract in everything(pools):
        data = response.read(exi.decode(contract.message)).contract
        scalar = int.from_bytes(opened(data.dh_point, data.wrapped, new), "big")
        key = ec.derive_private_key(scalar, ec.SECP256R1())
        assert point(key) == path.read(data.certificate).point


# 69


def test_malicious_cps_signing_foreign_mo_data_detected(pools: Pools) -> None:
    """A real CPS signs the data of an operator that is unknown here."""
    pools.register()
    world = pools.world
    foreign_mo = root("MO Root", dc="MO").sub("S1", 1, dc="MO").sub("S2", dc="MO")
    for issuer in (foreign_mo, world.oem_sub2):
        message = pools.foreign(pools.signer, pools.data(mo=issuer))
        refused("invalid", "not valid under RCP", pools.put, message)
    lying = type(pools.data())(**{**vars(pools.data()), "emaid": "FRXYZC00000001"})
    refused("invalid", "must be the CN", pools.put, pools.foreign(pools.signer, lying))
    assert everything(pools) == []


def test_a_cps_cannot_pass_one_vehicles_key_for_anothers(pools: Pools) -> None:
    """A contract certificate over the vehicle's own provisioning key would turn a signature made
    for one purpose into one for the other."""
    pools.register()
    leaf = pools.world.new_contract(EMAID, key=pools.ecu)
    data = type(pools.data())(**{**vars(pools.data()), "certificate": leaf.der})
    refused("invalid", "key of its own", pools.put, pools.foreign(pools.signer, data))


def test_a_stolen_signature_covers_nothing_else(pools: Pools) -> None:
    """The signature of one good bundle over the parts of another."""
    pools.register()
    first, second = pools.foreign(pools.signer), pools.foreign(pools.signer, pools.data())
    first["V2G_Message"]["Header"] = second["V2G_Message"]["Header"]
    refused("invalid", "signedContractDataXML is not valid", pools.put, first)


def lying_partner(pools: Pools, message: Any) -> Any:
    """Return services without a CPS that the vehicle trusts; the partner signs with `message`."""
    return SimpleNamespace(
        store=pools.store,
        clock=lambda: pools.now,
        update_revocations=lambda _, __: None,
        signers=[],
        peers=SimpleNamespace(
            refresh_vehicle=lambda _: None, sign=lambda *_: message, roots=lambda: False
        ),
    )  # fmt: skip


@pytest.mark.parametrize("stored", [True, False])
def test_a_partners_cps_cannot_sign_other_data(pools: Pools, stored: bool) -> None:
    pools.register()
    data = pools.data()
    request = SignRequest.model_validate(
        {
            "contractData": {
                "contractCertificate": encode(data.certificate),
                "contractSubCa2Certificate": encode(data.subs[0]),
                "contractSubCa1Certificate": encode(data.subs[1]),
                "contractSignatureEncryptedPrivateKey": encode(data.wrapped),
                "dHpublickey": encode(data.dh_point),
            },
            "xsdMsgDefNamespace": "urn:iso:15118:2:2013:MsgDef",
            "pcid": PCID,
        }
    )

    def sign(message: Any) -> Any:
        return opcp_cps._sign(OPERATOR, lying_partner(pools, message), request, stored)

    other_bundle = pools.foreign(pools.signer, pools.data())  # as good, and another key
    for answer in (other_bundle, exi.decode(PUBLISHED_NEGATIVE)):
        refused("unavailable", "signed other data", sign, answer)
    refused("invalid", "No CPS of this ecosystem", sign, None)
    assert everything(pools) == []
    assert sign(pools.foreign(pools.signer, data))["emaid"] == EMAID
    assert len(everything(pools)) == stored
