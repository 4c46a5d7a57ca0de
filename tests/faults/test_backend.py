"""The backend when its token or database fails: an error for the caller, nothing half done."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from evcc.vault import VaultError
from fixtures.pools import OPERATOR, Pools, authority
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.ecosystem import assembly
from plugvault.opcp.app import create_app
from plugvault.opcp.services import Services
from plugvault.opcp.tokens import Tokens
from plugvault.pools import clients
from plugvault.pools.errors import PoolError
from plugvault.store import SqlStore, sql
from world import EMAID, PCID, World

URL = "http://testserver"
RSA = rsa.generate_private_key(65537, 2048)


class Backend:
    """The application over a store, and one operator's call to it."""

    def __init__(self, pools: Pools, sign: Callable[[bytes], bytes]) -> None:
        tokens = Tokens(URL, lambda: pools.now, RSA, pools.store)
        client_id, secret = clients.new_credentials()
        with pools.store.write() as records:
            assembly.register_client(records, OPERATOR, (client_id, secret), pools.now)
        self.bearer = tokens.issue(client_id, secret, URL)
        services = Services(
            store=pools.store,
            tokens=tokens,
            signers=[replace(pools.signer, sign=sign)],
            enrolment={},
            operator=authority(pools.world.mo_sub2),
            ocsp=None,
            clock=lambda: pools.now,
        )
        self.app = httpx.ASGITransport(create_app(services), raise_app_exceptions=False)
        data = pools.data()
        self.body = {
            "contractData": {
                "contractCertificate": b64(data.certificate),
                "contractSubCa2Certificate": b64(data.subs[0]),
                "contractSubCa1Certificate": b64(data.subs[1]),
                "contractSignatureEncryptedPrivateKey": b64(data.wrapped),
                "dHpublickey": b64(data.dh_point),
            },
            "pcid": PCID,
            "xsdMsgDefNamespace": ISO2,
        }

    def sign(self) -> httpx.Response:
        async def put() -> httpx.Response:
            headers = {"Authorization": f"Bearer {self.bearer}"}
            async with httpx.AsyncClient(transport=self.app, base_url=URL) as client:
                path = "/v1/cps/contractData/signed"
                return await client.put(path, json=self.body, headers=headers)

        return asyncio.run(put())


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def registered(pools: Pools) -> Pools:
    pools.register()
    return pools


def test_with_everything_working_the_contract_is_stored(registered: Pools):
    assert Backend(registered, registered.signer.sign).sign().status_code == 201
    assert registered.contract()


def test_a_token_that_is_gone_is_503_and_nothing_is_stored(registered: Pools):
    def gone(_: bytes) -> bytes:
        raise VaultError("token-missing", "pulled out")

    answer = Backend(registered, gone).sign()
    assert (answer.status_code, answer.json()["errorMessages"]) == (
        503,
        ["The key store is not available."],
    )
    assert registered.contract() is None


def test_a_bug_is_500_and_discloses_nothing(registered: Pools, caplog: pytest.LogCaptureFixture):
    def bug(_: bytes) -> bytes:
        raise RuntimeError("the secret inside")

    answer = Backend(registered, bug).sign()
    assert answer.status_code == 500
    assert set(answer.json()) == {"errorMessages", "traceId"}
    assert "secret" not in answer.text
    (line,) = [line for line in caplog.records if line.name == "plugvault.opcp"]
    assert answer.json()["traceId"] in line.getMessage()
    assert line.exc_info
    assert registered.contract() is None


def test_a_token_that_signs_wrongly_stores_nothing(registered: Pools):
    answer = Backend(registered, lambda _: bytes(63) + b"\x01").sign()
    assert answer.status_code == 503  # not the operator's fault
    assert registered.contract() is None


@pytest.fixture
def impatient(
    tmp_path: Path, pool_world: World, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Pools, Path]]:
    monkeypatch.setattr(sql, "LOCK_TIMEOUT", 20)
    store = SqlStore.sqlite(tmp_path / "pools.sqlite")
    pools = Pools(store, pool_world)
    pools.register()
    yield pools, tmp_path / "pools.sqlite"
    store.close()


def test_a_database_that_is_locked_is_503_and_recovers(impatient: tuple[Pools, Path]):
    pools, file = impatient
    backend = Backend(pools, pools.signer.sign)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        answer = backend.sign()
        assert (answer.status_code, answer.json()["errorMessages"]) == (
            503,
            ["The database is not available."],
        )
        connection.execute("ROLLBACK")
    assert backend.sign().status_code == 201


def full(store: SqlStore) -> None:
    """The database may not grow from here on."""
    with store.write() as records:
        records._transaction.connection.execute("PRAGMA max_page_count = 1")


def test_a_full_disk_keeps_the_stored_contract(impatient: tuple[Pools, Path]):
    pools, _ = impatient
    before = pools.put()
    full(pools.store)
    failed = 0
    for number in range(40):
        try:
            pools.put(pools.sign(pools.data(f"DEPVTC{number:08}")))
        except PoolError as error:
            assert error.reason == "unavailable"
            failed += 1
    assert failed
    assert pools.contract(EMAID) == before
