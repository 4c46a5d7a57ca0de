"""An installation that is hit by a fault: a clear error, and the contracts that were there."""

from __future__ import annotations

from typing import Any

import pytest

from evcc import exi
from evcc.contracts import Contracts
from evcc.ports.files import Files, StoreError
from evcc.vault import VaultError
from fixtures.cars import STORED, Car
from world import EMAID, NOW, World


class FullFiles(Files):
    """A disk that is full from the `after`-th write on."""

    after = 0

    def write(self, name: str, *parts: bytes) -> None:
        if self.after == 0:
            raise StoreError("full", name)
        self.after -= 1
        super().write(name, *parts)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("emaid", [STORED, EMAID])
def test_full_flash_keeps_old_contract(car: Car, after: int, emaid: str) -> None:
    """Whichever write fails, renewal or new contract: the old one signs, no key is left over."""
    contract = car.world.new_contract(emaid, not_before=NOW - 60)
    response = car.world.response(car.point, contract=contract)
    full = FullFiles(car.folder)
    full.after = after
    car.contracts = Contracts(full)
    car.rejects("storage", "full", response)
    key = Contracts(car.files).get(STORED).key
    digest = bytes(32)
    assert car.vault.verify(car.vault.public(key), digest, car.vault.sign(key, digest))
    full.after = 3
    car.installs(response)


def test_a_decoded_message_is_let_go_before_the_index_is_written(car: Car) -> None:
    """At a station its caller still holds it, and a board has no room for both."""
    left: list[Any] = []

    class Watched(Files):
        def write(self, name: str, *parts: bytes) -> None:
            left.append([document["Header"], document["Body"]["CertificateInstallationRes"]])
            super().write(name, *parts)

    message: Any = exi.decode(car.world.response(car.point))
    document = message["V2G_Message"]
    car.contracts = Contracts(Watched(car.folder))
    car.installs(message)
    assert left
    assert left == [[{}, {}]] * len(left)


class Dying:
    """A vault that is gone from one call on, as when its process dies."""

    def __init__(self, vault: Any, last: str) -> None:
        self._vault = vault
        self._last = last
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._vault, name)

        def call(*args: Any) -> Any:
            if self._gone:
                raise VaultError("unavailable", "the token process died")
            self._gone = name == self._last
            return real(*args)

        return call


def test_a_vault_that_dies_while_opening_keeps_the_old_contract(car: Car) -> None:
    class Dead:
        def __getattr__(self, name: str) -> Any:
            if name == "open_contract_key":
                raise VaultError("unavailable", "the token process died")
            return getattr(car.vault, name)

    car.rejects("vault", "unavailable", car.world.response(car.point), vault=Dead())
    assert car.contracts.envelopes.mismatches == 0
    car.installs(car.world.response(car.point))


def test_a_vault_that_dies_after_opening_leaves_an_orphan_for_the_next_start(car: Car) -> None:
    """The key is in the token, the contract was never committed: the next start removes it."""
    from evcc.iso15118_2.installation import RejectedError

    dying = Dying(car.vault, "open_contract_key")
    with pytest.raises(RejectedError) as caught:
        car.install(car.world.response(car.point), vault=dying)
    assert caught.value.reason == "storage"
    assert len(car.vault.keys()) == 3
    restarted = Contracts(car.files)
    assert [contract.emaid for contract in restarted.all()] == [STORED]
    assert len(restarted.recover(car.vault)) == 1
    assert len(car.vault.keys()) == 2


def test_a_vault_that_dies_before_the_old_key_is_deleted_leaves_it_for_the_next_start(
    car: Car,
) -> None:
    renewed = car.world.new_contract(STORED, not_before=NOW - 60)
    response = car.world.response(car.point, contract=renewed)
    contract = car.install(response, vault=Dying(car.vault, "custody"))
    assert len(car.vault.keys()) == 3
    restarted = Contracts(car.files)
    assert restarted.get(STORED).key == contract.key
    assert len(restarted.recover(car.vault)) == 1
    assert car.vault.public(contract.key) == renewed.point


def test_a_foreign_key_in_the_token_survives_the_recovery(car: Car, world: World) -> None:
    from evcc.vault import cryptoki as p11

    scalar = world.contract_key.private_numbers().private_value.to_bytes(32, "big")
    template = [
        (p11.CKA_CLASS, p11.CKO_PRIVATE_KEY),
        (p11.CKA_TOKEN, True),
        (p11.CKA_KEY_TYPE, p11.CKK_EC),
        (p11.CKA_EC_PARAMS, b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"),
        (p11.CKA_ID, b"somebody elses 1"),
        (p11.CKA_LABEL, b"another program's key"),
        (p11.CKA_VALUE, scalar),
    ]
    foreign = car.vault._backend.create(template)
    assert Contracts(car.files).recover(car.vault) == []
    assert car.vault._backend.attribute(foreign, p11.CKA_ID) == b"somebody elses 1"
