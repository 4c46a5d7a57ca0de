"""One client of the vault service against the others: its operations, its limits and its keys."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import envelopes
from evcc import p256
from evcc.ports import tcp, unix
from evcc.vault import PROVISIONING, VaultError, service
from evcc.vault import cryptoki as p11
from evcc.vault.schemes import SCHEMES
from fixtures.tokens import CarToken
from plugvault.vault_service import handlers
from plugvault.vault_service.callers import RIGHTS, VaultCaller, take_opening
from plugvault.vault_service.envelopes import EnvelopeRecords
from plugvault.vault_service.handlers import OwnerState, RequestHandler, TokenLost
from plugvault.vault_service.service import VaultService, status_of

pytestmark = pytest.mark.usefixtures("patient")
DIGEST = bytes(range(32))
KEYS = {"one": os.urandom(32), "other": os.urandom(32)}
OPEN = service.OPERATIONS.index(("open_contract_key", 7))
LOCAL = ("127.0.0.1", 0)


def named(running: VaultService, name: str) -> service.ServiceVault:
    return service.connect(lambda: tcp.connect(*running.address), name, KEYS[name])


def by_line(running: VaultService, name: str) -> service.ServiceVault:
    """As a bench passes a board on: by the socket, and with a key of its own."""
    return service.connect(lambda: unix.connect(str(running.socket_path)), name, KEYS[name])


def opening(vault: service.ServiceVault, scalar: int = 7) -> bytes:
    case = envelopes.envelope(vault.public(PROVISIONING), scalar)
    return vault.open_contract_key(*case.values())


# How often


def test_rate_limit_is_not_reset_by_a_fork(car_token: CarToken) -> None:
    """Eight processes together sign as often as one."""
    sign = (
        "import sys; from evcc.ports import unix; from evcc.vault import VaultError, service\n"
        "vault = service.connect(lambda: unix.connect(sys.argv[1])); signed = 0\n"
        "try:\n"
        "    while True: vault.sign(b'provisioning', bytes(32)); signed += 1\n"
        "except VaultError as error: print(signed, error.reason)"
    )
    with car_token.service() as running:
        running.client().generate_provisioning_key()
    with car_token.service(rate=0.001) as running:  # one, and the next a quarter of an hour later
        forks = [
            subprocess.run(
                [sys.executable, "-c", sign, running.socket_path],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            for _ in range(8)
        ]
    assert forks == [["1", "limited"], *[["0", "limited"]] * 7]


@pytest.mark.parametrize("way", [named, by_line])
def test_rate_limit_of_a_name_is_one_however_it_connects(
    car_token: CarToken, way: Callable[[VaultService, str], service.ServiceVault]
) -> None:
    with car_token.service(tcp=LOCAL, keys=KEYS) as running:
        for name in KEYS:
            named(running, name).generate_provisioning_key()
    with car_token.service(rate=0.001, tcp=LOCAL, keys=KEYS) as running:
        named(running, "one").sign(PROVISIONING, DIGEST)
        with pytest.raises(VaultError, match=r"^limited: .*ask again in (1000|99\d)\.\d s"):
            way(running, "one").sign(PROVISIONING, DIGEST)
        way(running, "other").sign(PROVISIONING, DIGEST)
        running.client().generate_provisioning_key()


def test_openings_are_limited_to_a_cars_need_and_the_error_is_immediate(
    car_token: CarToken,
) -> None:
    socket = car_token.folder / "run" / "v"
    with VaultService(car_token.configuration(), socket) as running:
        vault = running.client()
        vault.generate_provisioning_key()
        for _ in range(12):
            vault.delete(opening(vault))
        for asker in (vault, running.client()):
            with pytest.raises(VaultError, match=r"^limited: .*ask again in (300|29\d)\.\d s"):
                opening(asker)
        assert len(vault.sign(PROVISIONING, DIGEST)) == 64
        vault.claim(b"neighbor")  # another car of this user's has its own
        vault.generate_provisioning_key()
        assert len(opening(vault)) == 16


def test_limit_of_openings_outlives_the_process(car_token: CarToken) -> None:
    with car_token.service(openings_per_hour=1) as running:
        vault = running.client()
        vault.generate_provisioning_key()
        opening(vault)
        os.kill(running.pid, 9)
        with pytest.raises(VaultError, match=r"^limited: .*contract keys"):
            opening(vault)


def test_stored_limit_fills_by_the_hour_and_not_by_a_clock_set_back() -> None:
    state = take_opening(take_opening(b"", 2, 9000), 2, 9000)
    for now in (9000, 9000 + 1799, 0):
        with pytest.raises(VaultError, match=r"^limited"):
            take_opening(state, 2, now)
    state = take_opening(state, 2, 9000 + 1800)
    with pytest.raises(VaultError, match=r"^limited"):
        take_opening(state, 2, 9000 + 1801)


def test_refused_openings_end_no_process(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process ends after many openings, because its library leaks; a refusal leaks nothing."""
    monkeypatch.setattr(handlers, "_FRESH_AFTER", 3)
    answers = RequestHandler(car_token.open(), EnvelopeRecords(car_token.folder / "records"))
    fields = [b"", b"iso2", b"", b"", b"", b"", bytes(16)]
    for _ in range(9):
        answer = answers.answer(VaultCaller(), service.pack(1, OPEN, fields)[2:])
        assert answer[3] == VaultError.REASONS.index("not-found") + 1
    random = service.OPERATIONS.index(("random", 1))
    assert answers.answer(VaultCaller(), service.pack(1, random, [b"\0\1"])[2:])[3] == 0


def test_owners_beyond_those_that_have_opened_keys_lately_are_refused() -> None:
    caller, records = VaultCaller(b"one"), EnvelopeRecords(Path("/nowhere"))
    for number in range(64):
        owner = caller.owned[bytes((number,)) * 8] = OwnerState(None, caller, None)
        owner.opened_at = time.monotonic()
    request = service.pack(1, service.OPERATIONS.index(("keys", 1)), [b"one more"])[2:]
    answer = RequestHandler(None, records).answer(caller, request)
    assert answer[3] == VaultError.REASONS.index("limited") + 1


def test_many_owners_do_not_raise_the_limit_of_openings(car_token: CarToken) -> None:
    """The record of owners is bounded, and keeps the owner that has opened a key."""
    with car_token.service(openings_per_hour=1) as running:
        vault = running.client()
        vault.generate_provisioning_key()
        opening(vault)
        for n in range(200):
            vault.claim(n.to_bytes(8, "big"))
            assert vault.keys() == []
        vault.claim(b"")
        with pytest.raises(VaultError, match=r"^limited"):
            opening(vault)


@pytest.mark.parametrize("way", [None, named], ids=["socket", "tcp"])
def test_invented_owners_get_no_more_provisioning_keys_than_the_limit(
    car_token: CarToken, way: Callable[[VaultService, str], service.ServiceVault] | None
) -> None:
    """No client can delete such a key, and every listing of the token's keys reads them all."""
    with car_token.service(openings_per_hour=3, keys=KEYS, tcp=LOCAL) as running:
        vault = way(running, "one") if way else running.client()
        for n in range(3):
            vault.claim(n.to_bytes(8, "big"))
            vault.generate_provisioning_key()
            with pytest.raises(VaultError, match=r"^exists"):
                vault.generate_provisioning_key()
        vault.claim(b"invented")
        with pytest.raises(VaultError, match=r"^limited: too many provisioning keys"):
            vault.generate_provisioning_key()
        assert vault.keys() == []
        vault.claim(bytes(8))
        assert len(vault.sign(PROVISIONING, DIGEST)) == 64
        named(running, "other").generate_provisioning_key()  # another client has its own limit
        left = status_of(running.socket_path)["provisioning_keys_left"]
        assert left == (3 if way else 0)


def test_repeated_request_for_a_provisioning_key_gets_it_also_at_the_limit(
    car_token: CarToken,
) -> None:
    handler = RequestHandler(car_token.open(), EnvelopeRecords(car_token.folder / "records"))
    caller = VaultCaller(openings=1)
    first = handler.answer(caller, service.pack(1, 0, [b""])[2:])
    assert handler.answer(caller, service.pack(1, service.AGAIN, [b""])[2:]) == first
    refused = handler.answer(caller, service.pack(1, service.AGAIN, [b"invented"])[2:])
    assert refused[3] == VaultError.REASONS.index("limited") + 1


def test_setting_that_lifts_the_limit_is_named_in_the_status(car_token: CarToken) -> None:
    for limit in (12.0, 100.0, None):
        with car_token.service(openings_per_hour=limit, rate=50, keys=KEYS, tcp=LOCAL) as running:
            status = status_of(running.socket_path)
            assert status["openings_per_hour"] == status["provisioning_keys_left"] == limit
            assert status["rate"] == 50
            assert status["rights"] == sorted(RIGHTS)
            assert Path(status["state"]).parent.parent == car_token.store.tokens


# What


@pytest.mark.parametrize("again", [0, service.AGAIN])
def test_no_client_may_delete_the_provisioning_key(each_token: CarToken, again: int) -> None:
    delete = service.OPERATIONS.index(("delete", 2)) | again
    with each_token.service(tcp=LOCAL, keys=KEYS) as running:
        for vault in (running.client(), named(running, "one"), by_line(running, "other")):
            point = vault.generate_provisioning_key()
            with pytest.raises(VaultError, match=r"^refused: .*contract keys only"):
                vault._request(delete, b"", PROVISIONING)
            assert p256.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST))
            vault.delete(opening(vault))


def test_a_temporary_failure_of_the_token_costs_no_provisioning_key(
    each_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated request removes a half-made key, and never a whole one."""
    make = service.OPERATIONS.index(("generate_provisioning_key", 1)) | service.AGAIN

    def fail(*_: object) -> bytes:
        raise VaultError("unavailable", "C_Sign 0x30")

    vault = each_token.open()
    point = vault.generate_provisioning_key()
    answers = RequestHandler(vault, EnvelopeRecords(each_token.folder / "records"))
    with monkeypatch.context() as failing:
        failing.setattr(vault._backend, "sign", fail)
        with pytest.raises(TokenLost):
            answers.answer(VaultCaller(), service.pack(1, make, [b""])[2:])
    assert vault.public(PROVISIONING) == point
    assert p256.verify(point, DIGEST, vault.sign(PROVISIONING, DIGEST))
    vault.close()


def outcomes(vault: service.ServiceVault, key: bytes) -> dict[str, str]:
    """Return the reason of refusal for an operation of each right, or ""."""
    case = envelopes.envelope(vault.public(PROVISIONING), 7)
    attempts: dict[str, Callable[[], object]] = {
        "make": lambda: vault._request(0, b""),
        "sign": lambda: vault.sign(PROVISIONING, DIGEST),
        "open": lambda: vault.open_contract_key(*case.values()),
        "delete": lambda: vault.delete(key),
    }
    reasons = dict.fromkeys(attempts, "")
    for name, attempt in attempts.items():
        try:
            attempt()
        except VaultError as error:
            reasons[name] = error.reason
    return reasons


@pytest.mark.parametrize("right", ["make", "sign", "open", "delete"])
@pytest.mark.parametrize("has_it", [True, False])
def test_each_right_permits_its_own_operations_only(
    car_token: CarToken, right: str, has_it: bool
) -> None:
    mine = {right} if has_it else RIGHTS - {right}
    with car_token.service(keys=KEYS, tcp=LOCAL) as running:
        vault = named(running, "one")
        vault.generate_provisioning_key()
        key = opening(vault)
    with car_token.service(keys=KEYS, tcp=LOCAL, rights={"one": mine}) as running:
        vault = named(running, "one")
        allowed = {"make": "exists", "sign": "", "open": "", "delete": ""}
        expected = {name: allowed[name] if name in mine else "refused" for name in allowed}
        assert outcomes(vault, key) == expected
        unnamed = named(running, "other")  # an unnamed client has all rights
        unnamed.generate_provisioning_key()
        unnamed.delete(opening(unnamed))


def test_rights_of_clients_of_the_socket(car_token: CarToken) -> None:
    with car_token.service(rights={"": ("sign",)}, keys=KEYS) as running:
        with pytest.raises(VaultError, match=r"^refused: .*no right to make"):
            running.client().generate_provisioning_key()
        assert status_of(running.socket_path)["rights"] == ["sign"]
        board = by_line(running, "one")  # with rights of its own
        board.generate_provisioning_key()
        assert len(board.sign(PROVISIONING, DIGEST)) == 64


@pytest.mark.parametrize(
    "settings",
    [
        {"rights": {"unknown": ("sign",)}},
        {"rights": {"one": ("sing",)}},
        {"rights": {"one": "sign"}},
        {"rate": 0},
        {"openings_per_hour": 0},
    ],
    ids=str,
)
def test_meaningless_settings_are_refused(car_token: CarToken, settings: dict[str, Any]) -> None:
    with pytest.raises(VaultError, match=r"^refused"):
        car_token.service(keys=KEYS, **settings)


# Owners


@contextmanager
def two_cars(
    running: VaultService, kind: str
) -> Iterator[tuple[service.ServiceVault, service.ServiceVault]]:
    if kind == "names":
        first, second = named(running, "one"), by_line(running, "other")
    else:
        first, second = running.client(), running.client()
        first.claim(b"car  one")
        second.claim(b"car  two")
    yield first, second
    first.close()
    second.close()


@pytest.mark.parametrize("kind", ["names", "claims"])
@pytest.mark.parametrize("claimed", [b"", b"thesame8"])
def test_two_cars_on_one_token_leave_each_other_alone(
    each_token: CarToken, kind: str, claimed: bytes
) -> None:
    with each_token.service(tcp=LOCAL, keys=KEYS) as running, two_cars(running, kind) as cars:
        if kind == "names":
            for car in cars:
                car.claim(claimed)
        points = [car.generate_provisioning_key() for car in cars]
        keys = [opening(car) for car in cars]
        assert points[0] != points[1]
        for car, other_car, point, key in zip(cars, cars[::-1], points, keys, strict=True):
            assert set(dict(car.keys())) == {PROVISIONING, key}
            assert car.public(PROVISIONING) == point
            for reach in (other_car.public, other_car.delete, other_car.custody):
                with pytest.raises(VaultError, match=r"^not-found"):
                    reach(key)
            with pytest.raises(VaultError, match=r"^not-found"):
                other_car.sign(key, DIGEST)
            assert p256.verify(point, DIGEST, car.sign(PROVISIONING, DIGEST))
            assert len(car.sign(key, DIGEST)) == 64


@contextmanager
def factory_key(token: CarToken, key: bytes) -> Iterator[str]:
    """A key pair of another program in the token, and the URI that adopts it."""
    vault = token.open()
    common = [(p11.CKA_TOKEN, True), (p11.CKA_ID, key), (p11.CKA_LABEL, b"factory")]
    curve = [(p11.CKA_VERIFY, True), (p11.CKA_EC_PARAMS, SCHEMES["iso2"].ec_params)]
    vault._backend.generate(common + curve, common + p11.private_flags(derive=True))
    vault.close()
    yield "pkcs11:object=factory"


@pytest.mark.parametrize("adopted", [False, True])
def test_no_client_gives_its_key_the_id_of_a_key_that_is_there(
    each_token: CarToken, adopted: bool
) -> None:
    """NSS would put the new key in the place of the other one."""
    key = os.urandom(16)
    with (
        factory_key(each_token, key) as name,
        each_token.service(tcp=LOCAL, keys=KEYS, provisioning=name * adopted) as running,
    ):
        rogue = victim = named(running, "one")
        if not adopted:
            victim = named(running, "other")
            victim.generate_provisioning_key()
            rogue.generate_provisioning_key()
            key = opening(victim)
        used = PROVISIONING if adopted else key
        case = envelopes.envelope(rogue.public(PROVISIONING), 9)
        for request in (OPEN, OPEN | service.AGAIN):
            fields = [b"iso2", case["dh"], case["wrapped"], b"", case["public"], key]
            with pytest.raises(VaultError, match=r"^exists"):
                rogue._request(request, b"", *fields)
        os.kill(running.pid, 9)
        assert p256.verify(victim.public(used), DIGEST, victim.sign(used, DIGEST))


def test_an_adopted_key_is_of_one_client_and_has_one_record(car_token: CarToken) -> None:
    """Whichever claims it first in a new process, and by whatever owner's name."""
    with factory_key(car_token, b"\1") as name:
        with car_token.service(tcp=LOCAL, keys=KEYS, provisioning=name) as running:
            car = named(running, "one")
            case = envelopes.envelope(car.public(PROVISIONING), 7)
            car.open_contract_key(*case.values())
        with car_token.service(tcp=LOCAL, keys=KEYS, provisioning=name) as running:
            rogue = named(running, "other")
            for ask in (rogue.public, rogue.custody, lambda key: rogue.sign(key, DIGEST)):
                with pytest.raises(VaultError, match=r"^refused: .*another client's"):
                    ask(PROVISIONING)
            assert len(named(running, "one").sign(PROVISIONING, DIGEST)) == 64
        (binding,) = (car_token.folder / "hsm/tokens").glob("*/plugvault/client-*")
        binding.unlink()
        with car_token.service(tcp=LOCAL, keys=KEYS, provisioning=name) as running:
            rogue = named(running, "other")
            question = {**case, "public": envelopes.envelope(case["dh"], 8)["public"]}
            with pytest.raises(VaultError, match=r"^seen"):
                rogue.open_contract_key(*question.values())


def test_board_cannot_claim_keys_of_another_board_or_of_the_user(car_token: CarToken) -> None:
    """Not even by the eight bytes that stand in the token."""
    with car_token.service(tcp=LOCAL, keys=KEYS) as running:
        named(running, "one").generate_provisioning_key()
        running.client().generate_provisioning_key()
        for claimed in (b"", VaultCaller(b"one").owner(b"")):
            board = named(running, "other")
            board.claim(claimed)
            assert board.keys() == []


def test_names_and_claims_run_into_each_other_nowhere() -> None:
    names, claims = (b"a", b"ab", b"a12345678"), (b"", b"12345678")
    meant = {VaultCaller(name).owner(claimed) for name in names for claimed in claims}
    assert len(meant) == len(names) * len(claims)
    assert all(len(owner) == 8 for owner in meant)
    with pytest.raises(VaultError, match=r"^refused"):
        VaultCaller(b"a").owner(b"12345678b")


def test_board_sees_its_own_envelopes_only(car_token: CarToken) -> None:
    with car_token.service(tcp=LOCAL, keys=KEYS) as running:
        for name in KEYS:
            vault = named(running, name)
            vault.generate_provisioning_key()
            opening(vault)
        status = service.OPERATIONS.index(("status", 1))
        report = named(running, "one")._request(status, b"")[0]
        assert b'"envelopes": 1' in report
        assert b'"client": "one"' in report
        assert b"other" not in report
        assert b"state" not in report
        assert len(status_of(running.socket_path)["owners"]) == 2
