"""The same vault contract (tests/both/vault_conformance.py) for each key store and interpreter."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import envelopes
import world
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.vault_service.callers import VaultCaller

BOTH = Path(__file__).parents[1] / "both"
sys.path.append(str(BOTH))

import vault_conformance  # noqa: E402

ON_CAR = vault_conformance.functions("on_car_")
ON_EMPTY = vault_conformance.functions("on_empty_")
ON_OWN = vault_conformance.functions("on_own_")
ON_SERVED = vault_conformance.functions("on_served_")
EMPTY = "empty"


def cases(static: envelopes.ec.EllipticCurvePrivateKey) -> dict:
    recipient = world.point(static)
    opens = {"known answer": envelopes.known(static), **envelopes.opening(recipient)}
    bad = envelopes.refused(recipient)
    return {
        "provisioning": recipient,
        "opens": [{"name": name, **case} for name, case in opens.items()],
        "congruent": [{"name": "n + 5 for 5", **envelopes.congruent(recipient)}],
        "refused": [{"name": n, "reason": reason, **case} for n, (reason, case) in bad.items()],
    }


def prepare(token: CarToken, client: VaultCaller = VaultCaller()) -> Path:  # noqa: B008 - never changed
    """Give it the known provisioning key, each owner of this client its own, and an empty token
    beside it; the file of cases."""
    static = envelopes.private_key(envelopes.KNOWN_STATIC)
    token.add(EMPTY)
    owners = [client.owner(claimed) for claimed in (b"", *vault_conformance.OWNERS)]
    token.plant_provisioning_key(static, owners)
    file = token.folder / "cases.json"
    file.write_text(json.dumps(cases(static), default=bytes.hex))
    return file


@pytest.fixture
def prepared(each_token: CarToken) -> tuple[CarToken, Path]:
    return each_token, prepare(each_token)


def test_vault_in_process(prepared: tuple[CarToken, Path]) -> None:
    car_token, file = prepared
    loaded = vault_conformance.load(str(file))
    for label, functions in ((EMPTY, ON_EMPTY + ON_OWN), (car_token.label, ON_CAR)):
        vault = car_token.open(label)
        try:
            for _, function in functions:
                function(vault, loaded)
        finally:
            vault.close()


@pytest.mark.parametrize("name", runtimes.NAMES)
def test_vault_service(
    name: str,
    prepared: tuple[CarToken, Path],
    record_property: Callable[[str, object], None],
) -> None:
    car_token, file = prepared
    with ExitStack() as stack:
        services = [
            stack.enter_context(car_token.service(label)) for label in (car_token.label, EMPTY)
        ]
        sockets = [str(service.socket_path) for service in services]
        run(name, record_property, [str(file), "service", *sockets])


@pytest.mark.parametrize("name", runtimes.NAMES)
def test_vault_service_on_tcp(
    name: str,
    car_token: CarToken,
    record_property: Callable[[str, object], None],
) -> None:
    file, key = prepare(car_token, VaultCaller(b"car")), secrets.token_bytes(32)
    with ExitStack() as stack:
        services = [
            stack.enter_context(car_token.service(label, tcp=("127.0.0.1", 0), keys={"car": key}))
            for label in (car_token.label, EMPTY)
        ]
        ports = [str(service.address[1]) for service in services]
        run(name, record_property, [str(file), "tcp", *ports], pin=key.hex())


def test_vault_through_ffi(
    prepared: tuple[CarToken, Path], record_property: Callable[[str, object], None]
) -> None:
    car_token, file = prepared
    location = car_token.location
    arguments = [
        str(file),
        "pkcs11",
        str(location.module),
        location.label,
        EMPTY,
        location.options,
    ]
    run("debian", record_property, arguments, location.env(), car_token.pin)


def run(
    name: str,
    record_property: Callable[[str, object], None],
    arguments: list[str],
    more_env: dict[str, str] | None = None,
    pin: str = "",
) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    ended = subprocess.run(
        [*runtime.argv, *runtime.heap("2M"), str(BOTH / "vault_conformance.py"), *arguments],
        env={**runtime.env(BOTH), **(more_env or {})},
        input=pin + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    passed = sum(line.startswith("ok ") for line in ended.stdout.splitlines())
    record_property(f"evcc {runtime.name}", passed)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    own = ON_OWN if arguments[1] == "pkcs11" else ON_SERVED
    assert passed == len(ON_CAR) + len(ON_EMPTY) + len(own)
