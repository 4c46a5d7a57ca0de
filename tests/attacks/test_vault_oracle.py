"""The envelope oracle at the vault service: the whole attack, by each connection, on each token.

The limits are lifted, so that it is the record of envelopes alone that answers. The same attack
without that record gives the key: so it is known to be one.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import envelopes
from evcc import p256, record
from evcc.ports import tcp
from evcc.vault import PROVISIONING, VaultError, service
from fixtures.tokens import CarToken, restarts
from oracle import Envelope, recover
from plugvault.vault_service.callers import VaultCaller
from plugvault.vault_service.handlers import RequestHandler
from plugvault.vault_service.service import VaultService, status_of

pytestmark = pytest.mark.usefixtures("patient")
KEY = os.urandom(32)
DIGEST = bytes(range(32))
QUESTIONS = 256
SEEN = "seen: its point came before"
WAYS: dict[str, Callable[[VaultService], service.ServiceVault]] = {
    "socket": lambda running: running.client(),
    "tcp": lambda running: service.connect(lambda: tcp.connect(*running.address), "car", KEY),
}


class NoRecords:
    """In place of `envelopes.Records`: it remembers no envelope."""

    def of(self, owner: bytes) -> "NoRecords":
        return self

    def bind(self, client: bytes, uses: bool = True) -> None:
        pass

    def ask(self, *envelope: object) -> None:
        pass

    def mismatched(self, dh_point: bytes) -> None:
        pass


class InProcess:
    """A stream with `answers` as its peer."""

    def __init__(self, answers: RequestHandler) -> None:
        self._answers, self._caller, self._said = (
            answers,
            VaultCaller(rate=1e6, openings=None),
            b"",
        )

    def write(self, data: bytes) -> None:
        self._said += self._answers.answer(self._caller, data[2:])

    def read(self, n: int, timeout_ms: int) -> bytes:
        piece, self._said = self._said[:n], self._said[n:]
        return piece

    def close(self) -> None:
        pass


class Attacker:
    """The questions of a client of the service, and the other answers that it got."""

    def __init__(self, vault: service.ServiceVault) -> None:
        self.vault = vault
        self.reasons: list[str] = []

    def ask(self, envelope: Envelope) -> bool:
        dh_point, wrapped, public = envelope
        try:
            key = self.vault.open_contract_key("iso2", dh_point, wrapped, b"", public)
        except VaultError as error:
            self.reasons.append(str(error))
            return False
        self.reasons.append("opened")
        self.vault.delete(key)
        return True


def recorded(vault: service.ServiceVault) -> tuple[int, dict[str, Any]]:
    """A contract key, and its envelope as it went over the wire."""
    scalar = 1 + secrets.randbelow(envelopes.N - 1)
    return scalar, envelopes.envelope(vault.generate_provisioning_key(), scalar)


def recovered(case: dict[str, Any], ask: Callable[[Envelope], bool]) -> int:
    """The bits that the attack reads out of the answers."""
    return recover(Envelope(case["dh"], case["wrapped"], case["public"]), ask)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[[VaultService], service.ServiceVault]:
    return WAYS[request.param]


def started(token: CarToken, **more: Any) -> VaultService:
    return token.service(tcp=("127.0.0.1", 0), keys={"car": KEY}, **more)


def test_envelope_oracle_recovers_nothing(
    each_token: CarToken, way: Callable[[VaultService], service.ServiceVault]
) -> None:
    """Of an envelope that the car has opened: not one bit."""
    with started(each_token) as running:
        vault = way(running)
        scalar, case = recorded(vault)
        key = vault.open_contract_key(*case.values())
        attacker = Attacker(way(running))
        assert recovered(case, attacker.ask) != scalar
        assert attacker.reasons == [SEEN] * QUESTIONS
        assert set(dict(vault.keys())) == {PROVISIONING, key}
        assert p256.verify(case["public"], DIGEST, vault.sign(key, DIGEST))
        again = vault.open_contract_key(*case.values())  # the car may still ask for it once more
        assert p256.verify(case["public"], DIGEST, vault.sign(again, DIGEST))


def test_envelope_oracle_is_asked_once_of_an_envelope_that_was_caught(
    each_token: CarToken, way: Callable[[VaultService], service.ServiceVault]
) -> None:
    """The car has never had it: the first question is answered, all others alike. In between the
    process that serves is killed."""
    with started(each_token) as running:
        scalar, case = recorded(way(running))
        attacker = Attacker(way(running))

        def ask(envelope: Envelope) -> bool:
            if len(attacker.reasons) in (1, 100):
                os.kill(running.pid, 9)
                restarts(running, running.restarts + 1)
            return attacker.ask(envelope)

        assert recovered(case, ask) != scalar
        assert attacker.reasons[0] in ("opened", "key-mismatch")
        assert attacker.reasons[1:] == [SEEN] * (QUESTIONS - 1)


def test_envelope_oracle_recovers_the_key_where_nothing_is_remembered(
    each_token: CarToken,
) -> None:
    with closing(each_token.open()) as vault:
        client = service.connect(InProcess(RequestHandler(vault, NoRecords())))
        scalar, case = recorded(client)
        attacker = Attacker(client)
        assert recovered(case, attacker.ask) == scalar
        assert len(attacker.reasons) == QUESTIONS
        assert set(attacker.reasons) == {"opened", "key-mismatch"}


def test_seen_dh_point_with_another_envelope_is_refused(car_token: CarToken) -> None:
    """Each change is refused: of one bit of the envelope, the certificate, the point's sign."""
    with started(car_token) as running:
        vault = running.client()
        _, case = recorded(vault)
        vault.open_contract_key(*case.values())
        other_case = envelopes.envelope(vault.public(PROVISIONING), 7)
        for change in (
            {"wrapped": case["wrapped"][:-1] + bytes([case["wrapped"][-1] ^ 1])},
            {"wrapped": other_case["wrapped"]},
            {"public": other_case["public"]},
            {"dh": envelopes.negated(case["dh"]), "wrapped": other_case["wrapped"]},
        ):
            with pytest.raises(VaultError, match=r"^seen"):
                vault.open_contract_key(*{**case, **change}.values())


def test_retry_of_the_same_envelope_is_accepted(car_token: CarToken) -> None:
    """Nor after the service and its process were started again."""
    with started(car_token) as running:
        vault = running.client()
        _, case = recorded(vault)
        keys = {vault.open_contract_key(*case.values()) for _ in range(2)}
        os.kill(running.pid, 9)
        keys.add(vault.open_contract_key(*case.values()))
    with started(car_token) as running:
        vault = running.client()
        keys.add(vault.open_contract_key(*case.values()))
        assert set(dict(vault.keys())) == {PROVISIONING, *keys}
        assert len(keys) == 4
        assert status_of(running.socket_path)["owners"][""]["envelopes"] == 1


def mismatching(vault: service.ServiceVault) -> dict[str, Any]:
    point = vault.public(PROVISIONING)
    return envelopes.envelope(point, 7, envelopes.envelope(point, 8)["public"])


def test_mismatches_are_counted_for_life_and_lock(each_token: CarToken) -> None:
    """The count survives kills and restarts; a mismatched envelope is neither tried nor counted
    again."""
    with started(each_token) as running:
        vault = running.client()
        _, good = recorded(vault)
        first = vault.open_contract_key(*good.values())
        bad = mismatching(vault)
        for _ in range(3):
            with pytest.raises(VaultError, match=r"^key-mismatch$"):
                vault.open_contract_key(*bad.values())
        os.kill(running.pid, 9)
        with pytest.raises(VaultError, match=r"^key-mismatch$"):
            vault.open_contract_key(*mismatching(vault).values())
    for _ in range(3):
        with started(each_token) as running, pytest.raises(VaultError, match=r"^key-mismatch$"):
            running.client().open_contract_key(*mismatching(running.client()).values())
    with started(each_token) as running:
        vault = running.client()
        fresh = envelopes.envelope(vault.public(PROVISIONING), 9)
        with pytest.raises(VaultError, match=r"^locked: 5 keys .*plugvault vault unlock"):
            vault.open_contract_key(*fresh.values())
        assert p256.verify(good["public"], DIGEST, vault.sign(first, DIGEST))
        owner_status = status_of(running.socket_path)["owners"][""]
        assert owner_status == {"envelopes": 6, "mismatches": 5, "locked": True}


def test_lock_of_one_owner_is_not_anothers(car_token: CarToken) -> None:
    with started(car_token) as running:
        locked_vault, other_vault = running.client(), running.client()
        other_vault.claim(b"neighbor")
        for vault in (locked_vault, other_vault):
            vault.generate_provisioning_key()
        for _ in range(5):
            with pytest.raises(VaultError, match=r"^key-mismatch"):
                locked_vault.open_contract_key(*mismatching(locked_vault).values())
        with pytest.raises(VaultError, match=r"^locked"):
            locked_vault.open_contract_key(*mismatching(locked_vault).values())
        case = envelopes.envelope(other_vault.public(PROVISIONING), 9)
        assert len(other_vault.open_contract_key(*case.values())) == 16


def test_two_services_on_one_token_share_the_record(car_token: CarToken) -> None:
    with started(car_token) as first_service:
        socket = car_token.folder / "run" / "other.sock"
        with VaultService(
            car_token.configuration(), socket, openings_per_hour=None
        ) as second_service:
            _, case = recorded(first_service.client())
            first_service.client().open_contract_key(*case.values())
            attack = {**case, "public": envelopes.envelope(case["dh"], 7)["public"]}
            with pytest.raises(VaultError, match=r"^seen"):
                second_service.client().open_contract_key(*attack.values())


@pytest.mark.parametrize("damage", ["cut off", "empty", "a bit", "zeros", "nothing"])
def test_damaged_record_opens_nothing_and_is_not_replaced(
    car_token: CarToken, damage: str
) -> None:
    with started(car_token) as running:
        vault = running.client()
        _, case = recorded(vault)
        key = vault.open_contract_key(*case.values())
        (file,) = (car_token.folder / "hsm/tokens").glob("*/plugvault/envelopes")
        intact = file.read_bytes()
        spoiled = {
            "cut off": intact[:-9],
            "empty": b"",
            "a bit": intact[:30] + bytes([intact[30] ^ 4]) + intact[31:],
            "zeros": bytes(len(intact)),
            "nothing": record.pack([b""]),  # whole, and says that there were none
        }[damage]
        file.write_bytes(spoiled)
        for _ in range(2):
            with pytest.raises(VaultError, match=r"^locked: .*plugvault/envelopes is damaged"):
                vault.open_contract_key(*case.values())
            os.kill(running.pid, 9)
        assert file.read_bytes() == spoiled
        assert p256.verify(case["public"], DIGEST, vault.sign(key, DIGEST))
        assert "damaged" in status_of(running.socket_path)["owners"][""]["error"]
        file.write_bytes(intact)
        assert len(vault.open_contract_key(*case.values())) == 16


def test_a_malformed_envelope_takes_no_place_in_the_record(car_token: CarToken) -> None:
    with started(car_token) as running:
        vault = running.client()
        vault.generate_provisioning_key()
        refused = envelopes.refused(vault.public(PROVISIONING)).values()
        bad = [(reason, case) for reason, case in refused if reason != "key-mismatch"]
        assert {reason for reason, _ in bad} == {"point", "wrapped-length", "scheme"}
        for reason, case in bad:
            with pytest.raises(VaultError, match=f"^{reason}"):
                vault.open_contract_key(*case.values())
        assert status_of(running.socket_path)["owners"] == {}
