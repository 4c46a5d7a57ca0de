"""The token: what it must never give away, and what an installation must leave in it."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import Attribute, AttributeSensitive, ObjectClass

from evcc.car import CarContext
from evcc.iso15118_2.installation import InstallationRequest, RejectedError
from evcc.iso15118_2.session import PAIRS, Session
from evcc.vault import PROVISIONING, VaultError
from fixtures.cars import STORED, Car
from world import EMAID, NOW, SESSION_ID


def objects(car: Car, **template: Any) -> list[Any]:
    """Every object of the token that the logged-in session sees, its own temporary ones too."""
    attributes = {Attribute[name.upper()]: value for name, value in template.items()}
    return list(car.vault._backend._session.get_objects(attributes))


def test_provisioning_key_is_never_extractable(car: Car) -> None:
    keys = objects(car, **{"class": ObjectClass.PRIVATE_KEY})
    assert len(keys) == 2  # the provisioning key, and that of the stored contract
    for key in keys:
        assert key[Attribute.SENSITIVE] is True
        assert key[Attribute.EXTRACTABLE] is False
        assert key[Attribute.MODIFIABLE] is False
        with pytest.raises(AttributeSensitive):
            key[Attribute.VALUE]
    (provisioning,) = objects(car, **{"class": ObjectClass.PRIVATE_KEY, "id": PROVISIONING})
    assert provisioning[Attribute.NEVER_EXTRACTABLE] is True
    assert provisioning[Attribute.ALWAYS_SENSITIVE] is True


def test_a_contract_key_can_only_sign(car: Car) -> None:
    key = car.contracts.get(STORED).key
    (private,) = objects(car, **{"class": ObjectClass.PRIVATE_KEY, "id": key})
    assert private[Attribute.SIGN] is True
    for use in (Attribute.DERIVE, Attribute.DECRYPT, Attribute.UNWRAP):
        assert private[use] is False


def test_derived_secret_destroyed_after_use(car: Car) -> None:
    """No secret key object is left, neither by an installation nor by one that fails late."""
    count = len(objects(car))
    car.rejects("vault", "key-mismatch", car.world.response(car.point, scalar=bytes(31) + b"\1"))
    assert len(objects(car)) == count
    car.installs(car.world.response(car.point))
    assert len(objects(car)) == count + 2  # both halves of the contract key
    assert objects(car, **{"class": ObjectClass.SECRET_KEY}) == []


def test_wrong_pin_does_not_retry_until_locked(car_token: Any, monkeypatch: Any) -> None:
    """One C_Login per attempt of the caller, never one of the vault's own."""
    from plugvault.cryptoki.direct_calls import DirectCalls

    logins = []
    real = DirectCalls.login

    def counted(*call: Any) -> None:
        logins.append(call)
        real(*call)

    monkeypatch.setattr(DirectCalls, "login", counted)
    right, car_token.pin = car_token.pin, "9999-not-it"
    with pytest.raises(VaultError) as caught:
        car_token.open()
    assert caught.value.reason == "pin"
    assert len(logins) == 1
    assert "9999-not-it" not in str(caught.value)
    car_token.pin = right
    car_token.open().close()


def test_older_contract_cannot_replace_newer(car: Car) -> None:
    newer = car.world.new_contract(EMAID, not_before=NOW - 60)
    car.installs(car.world.response(car.point, contract=newer))
    older = car.world.new_contract(EMAID, not_before=NOW - 61)
    car.rejects("not-admitted", "older", car.world.response(car.point, contract=older))


def test_key_mismatch_and_bad_signature_are_indistinguishable_on_the_wire(car: Car) -> None:
    """A rejection as a station sees it: the same bytes, private key used or not."""
    bad = {
        "signature": car.world.response(car.point, references=("DHpublickey", "eMAID")),
        "vault": car.world.response(car.point, scalar=bytes(31) + b"\1"),
        "dh-point": car.world.response(car.point, dh=car.point),
    }
    seen = set()
    for reason, response in bad.items():
        request = InstallationRequest.at_station(SESSION_ID)

        def installer(
            payload: bytes, session_id: bytes, response: bytes = response, request: Any = request
        ) -> Any:
            return car.install(response, request=request)

        identity = type("Identity", (), {"certificate": b""})
        clock = SimpleNamespace(now=lambda: NOW, source=lambda: "clock")
        context = CarContext(car.vault, identity, car.trust, car.contracts, clock)
        session = Session(context, True, installer=installer, secure=True)
        session.session_id = SESSION_ID
        session.state = "CertificateInstallation"
        PAIRS[session.state].read(session, {}, b"")
        session.due = True
        frames, events = session.carry_out(0)
        assert events[0] == ("rejected", reason)
        seen.add(b"".join(frames))
    assert len(seen) == 1


def test_no_secret_in_logs_exceptions_or_repr(
    car: Car, car_token: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The contract's scalar and the PIN are in no log, no error and no file."""
    caplog.set_level(logging.DEBUG)
    scalar = car.world.contract_key.private_numbers().private_value.to_bytes(32, "big")
    reported: list[str] = []
    contract = car.install(car.world.response(car.point), report=reported.append)
    texts = [repr(contract), repr(car.vault), str(vars(contract)), caplog.text, *reported]
    wrong = ec.generate_private_key(ec.SECP256R1())
    hidden = wrong.private_numbers().private_value.to_bytes(32, "big")
    for change in ({"scalar": hidden}, {"dh": b"\4" + hidden * 2}, {"encrypted": hidden}):
        with pytest.raises(RejectedError) as caught:
            car.install(car.world.response(car.point, **change))
        texts += [str(caught.value), repr(caught.value), str(caught.value.cause)]
    files = b"".join(path.read_bytes() for path in Path(car.folder).iterdir())
    for secret in (scalar, hidden):
        for form in (secret.hex(), str(int.from_bytes(secret, "big")), repr(secret)[2:-1]):
            assert all(form not in text for text in texts)
        assert secret not in files
    assert all(car_token.pin not in text for text in texts)


def test_the_token_files_hold_no_plain_contract_key(car: Car, car_token: Any) -> None:
    """SoftHSM encrypts private objects; this checks that the vault marked the key as private."""
    car.installs(car.world.response(car.point))
    scalar = car.world.contract_key.private_numbers().private_value.to_bytes(32, "big")
    contents = [path.read_bytes() for path in car_token.store.tokens.rglob("*.object")]
    assert contents
    assert not any(scalar in content for content in contents)
