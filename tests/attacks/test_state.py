"""Old or foreign state revives nothing, and destroys no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evcc.contracts import Contracts
from evcc.ports.files import Files
from evcc.timekeeper import Timekeeper
from evcc.vault import PROVISIONING
from evcc.vault.pkcs11 import for_owner, owners
from fixtures.cars import STORED, Car
from world import DAY, EMAID, NOW, World

DIGEST = bytes(range(32))


def signs(vault: Any, key: bytes) -> bool:
    return bool(vault.verify(vault.public(key), DIGEST, vault.sign(key, DIGEST)))


class Clock:
    """The car's time: of a clock that an attacker can set, and what it keeps in its files."""

    def __init__(self, car: Car) -> None:
        self.car, self.set_to = car, NOW
        self.restart()

    def restart(self) -> None:
        self.keeper = Timekeeper(Files(self.car.folder), lambda: self.set_to, lambda: 0)

    def now(self) -> int:
        return int(self.keeper.now())


def expiring(car: Car) -> bytes:
    return car.world.response(
        car.point, contract=car.world.new_contract(EMAID, not_after=NOW + DAY)
    )


def test_rejects_clock_rollback_reviving_expired_cert(car: Car) -> None:
    clock, response = Clock(car), expiring(car)
    clock.set_to = NOW + 2 * DAY
    clock.now()
    clock.set_to = NOW
    car.rejects("contract-path", "expired", response, now=clock.now())


def test_clock_set_back_does_not_revive_a_certificate(car: Car) -> None:
    """Not even over a restart; only the maker's message turns the time back."""
    clock, response = Clock(car), expiring(car)
    clock.set_to = NOW + 2 * DAY
    clock.now()
    clock.set_to = NOW
    clock.restart()
    car.rejects("contract-path", "expired", response, now=clock.now())
    clock.keeper.set(NOW)
    car.installs(response, now=clock.now())


def test_removed_contract_stays_out_after_any_number_of_others(car: Car) -> None:
    removed = car.world.response(car.point)
    car.installs(removed)
    car.vault.delete(car.contracts.delete(EMAID))
    for day in range(40):
        renewed = car.world.new_contract(STORED, not_before=NOW - DAY + 1 + day)
        car.installs(car.world.response(car.point, contract=renewed))
    car.contracts = Contracts(car.files)
    car.rejects("not-admitted", "replayed", removed)


def copy(car: Car) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(car.folder).iterdir()}


def put_back(car: Car, files: dict[str, bytes]) -> None:
    for file in Path(car.folder).iterdir():
        file.unlink()
    for name, data in files.items():
        (Path(car.folder) / name).write_bytes(data)


def test_older_index_or_foreign_index_costs_no_key(car: Car, world: World, tmp_path: Path) -> None:
    older = copy(car)
    newer = car.installs(world.response(car.point)).key
    put_back(car, older)
    restarted = Contracts(car.files)
    assert any("older than the token" in sentence for sentence in restarted.recover(car.vault))
    assert signs(car.vault, newer)
    put_back(car, {})  # as a folder that belongs to no car, or to another token
    foreign = Contracts(car.files)
    assert foreign.recover(car.vault) == ["no contract index: 3 keys left alone"]
    assert car.vault.keys() == []
    car.vault.claim(b"")
    assert signs(car.vault, newer)
    assert len(car.vault.keys()) == 3


def test_two_cars_on_one_token_leave_each_other_alone(
    car_token: Any, world: World, tmp_path: Path
) -> None:
    """Each car has its own provisioning key and contract; no action of one changes the other."""
    token = car_token.open()
    vaults = [for_owner(token, b""), for_owner(token, b"")]
    stores = [Files(str(tmp_path / name)) for name in ("one", "two")]
    for store, vault in zip(stores, vaults, strict=True):
        Contracts(store).recover(vault)
        vault.generate_provisioning_key()
    assert vaults[0].public(PROVISIONING) != vaults[1].public(PROVISIONING)
    cars = []
    for store, vault in zip(stores, vaults, strict=True):
        car = Car.__new__(Car)
        car.world, car.vault, car.files = world, vault, store
        car.point = vault.public(PROVISIONING)
        car.trust = _trusting(store, vault, world)
        car.contracts = Contracts(store)
        car.installs(world.response(car.point))
        cars.append(car)
    for car in cars:
        assert Contracts(car.files).recover(car.vault) == []
    keys = [car.contracts.get(EMAID).key for car in cars]
    cars[0].vault.delete(cars[0].contracts.delete(EMAID))
    assert Contracts(cars[0].files).recover(cars[0].vault) == []
    assert signs(cars[1].vault, keys[1])
    assert len(owners(token)) == 2
    token.close()


def _trusting(files: Files, vault: Any, world: World) -> Any:
    from evcc.trust import Trust

    trust = Trust(files, vault.verify)
    trust.install("EU", world.anchors, NOW)
    return trust
