"""After an installation the contract key is in no memory, no file and no output.

The memory is the service's, in which the token's library is, so a token in software is searched
with it. The search looks for every piece of eight bytes of each secret: freed memory has its
beginning overwritten, and keeps its end. For a level that passes more through the process than can
be wiped, MAY_BE_FOUND lists the pieces that may remain.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import envelopes
import image
from fixtures.tokens import CarToken, module_of
from plugvault import runtimes
from plugvault.tokens.providers import PROVIDERS

pytestmark = pytest.mark.usefixtures("patient")
DIGEST = bytes(range(32))
MAY_BE_FOUND = {
    "L1": {"Z", "K"},  # read from the token as `bytes`, which nothing can wipe
    "L1+": set[str](),
    "L2": set[str](),
    "L3": set[str](),
}
OF_THE_LIBRARY = {"softhsm": set[str](), "nss": {"Z"}}  # NSS 3.131 frees a Z it has derived
LEVELS = [("softhsm", "L1+"), ("softhsm", "L1"), ("nss", "L3"), ("nss", "L2"), ("nss", "L1")]

FORCE = """
import os, sys
if "plugvault.vault_service.server" in sys.orig_argv:
    from evcc.vault import custody

    level = os.environ["PLUGVAULT_LEVEL"]
    for cipher, recipes in custody.RECIPES.items():
        custody.RECIPES[cipher] = tuple(row for row in recipes if row[0] == level)
"""


@pytest.fixture
def car(request: pytest.FixtureRequest, short_dir: Path, monkeypatch: Any) -> CarToken:
    """A token with a service that opens contract keys at exactly that level."""
    name, level = request.param
    code = short_dir / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(FORCE)
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    monkeypatch.setenv("PLUGVAULT_LEVEL", level)
    module_of(PROVIDERS[name])
    return CarToken(short_dir, PROVIDERS[name])


def sealed(recipient: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return an envelope and its secrets."""
    contract, ephemeral = envelopes.new_key(), envelopes.new_key()
    scalar = contract.private_numbers().private_value
    static = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), recipient)
    z = ephemeral.exchange(ec.ECDH(), static)
    secrets = {
        "scalar": scalar.to_bytes(32, "big"),
        "Z": z,
        "K": hashlib.sha256(b"\0\0\0\1" + z + b"\1UV").digest()[:16],
    }
    return envelopes.envelope(recipient, scalar, ephemeral=ephemeral), secrets


def pieces(secrets: dict[str, bytes]) -> dict[str, bytes]:
    """All of eight bytes, by the name of the whole and where they are in it."""
    return {
        f"{name}@{at}": value[at : at + 8]
        for name, value in secrets.items()
        for at in range(0, len(value) - 7, 4)
    }


def in_files(folder: Path, secrets: dict[str, bytes]) -> set[str]:
    data = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert len(data) > 500
    return {name for name, value in secrets.items() if value in data or value.hex() in str(data)}


def names(places: Any) -> set[str]:
    return {name.partition("@")[0] for name in places}


@pytest.mark.parametrize(("car", "level"), [(one, one[1]) for one in LEVELS], indirect=["car"])
def test_nothing_of_the_contract_key_is_left(
    car: CarToken, level: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with car.service() as service:
        if not image.may_read(service.pid):
            pytest.skip("only root may read the memory of the service: it is not dumpable")
        vault = service.client()
        envelope, secrets = sealed(vault.generate_provisioning_key())
        key = vault.open_contract_key(*envelope.values())
        assert vault.custody(key) == level
        secrets["PIN"] = car.pin.encode()
        assert image.search(service.pid, {"no secret": envelope["public"]})
        assert names(image.search(service.pid, pieces(secrets))) <= MAY_BE_FOUND[level]
        vault.sign(key, DIGEST)
        vault.delete(key)
        assert names(image.search(service.pid, pieces(secrets))) <= MAY_BE_FOUND[level]
        assert names(in_files(car.folder, pieces(secrets))) == set()
    output = "".join(capfd.readouterr())
    assert not any(value.hex() in output or str(value) in output for value in secrets.values())


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_nothing_of_the_contract_key_is_left_in_a_module_with_its_own_token(
    name: str, level: str, short_dir: Path
) -> None:
    """Except the PIN, which came as text, and bytes that the library itself does not wipe."""
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    module_of(PROVIDERS[name])
    car = CarToken(short_dir, PROVIDERS[name])
    vault = car.open()
    envelope, secrets = sealed(vault.generate_provisioning_key())
    vault.close()
    file = car.folder / "case.json"
    file.write_text(json.dumps(envelope, default=bytes.hex))
    location, both = car.location, Path(__file__).parents[1] / "both"
    arguments = [str(location.module), location.label, location.options, level, str(file)]
    with subprocess.Popen(
        [*runtime.argv, *runtime.heap("2M"), str(both / "held_run.py"), *arguments],
        env={**runtime.env(both), **location.env()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(car.pin + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == level + "\n"
        if not image.may_read(process.pid):
            pytest.skip("this system lets no process read the memory of another")
        assert image.search(process.pid, {"no secret": envelope["public"]})
        left_names = names(image.search(process.pid, pieces(secrets)))
        assert left_names <= MAY_BE_FOUND[level] | OF_THE_LIBRARY[name]
        process.stdin.close()


def test_search_finds_a_secret_in_either_byte_order() -> None:
    hold = (
        "import sys; secret = sys.stdin.buffer.read(16)[:: int(sys.argv[1])]\n"
        "print('held', flush=True); sys.stdin.buffer.read()"
    )
    for order in ("1", "-1"):
        secret = os.urandom(16)
        with subprocess.Popen(
            [sys.executable, "-c", hold, order], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdin.write(secret)
            process.stdin.flush()
            assert process.stdout.readline() == b"held\n"
            fragments = pieces({"secret": secret, "another": os.urandom(16)})
            assert names(image.search(process.pid, fragments)) == {"secret"}
            process.stdin.close()
