"""Two separate ecosystems become partners by the commands of their operators alone."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from fixtures.backend import Vehicle
from fixtures.sandbox import Running, eventually
from plugvault.cli.ecosystem import app
from plugvault.pki.names import timestamp
from plugvault.pools.caller import CPO, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, OEM
from plugvault.roles.client import Credentials, OpcpClient, OpcpError
from plugvault.roles.oem import VehicleMaker

ISO2 = "urn:iso:15118:2:2013:MsgDef"


class Operated:
    """One ecosystem, what its operator types, and its clients."""

    def __init__(self, stack: ExitStack, folder: Path, softhsm: Path, secured: bool) -> None:
        self.folder = folder
        options = ("--port", "0", "--data", str(folder), *(["--tls"] if secured else []))
        running = Running(*options, PLUGVAULT_PKCS11_MODULE=str(softhsm))
        stack.callback(running.end)
        self.url = running.said["url"]
        self.root = folder / "certificates" / "v2g-root.pem"
        trust = ssl.create_default_context(cafile=self.root) if secured else None
        self.roles = {
            role: stack.enter_context(OpcpClient(self.url, Credentials(**credentials), trust))
            for role, credentials in running.said["roles"].items()
        }

    def types(self, *words: str, typed: str = "", status: int = 0) -> Any:
        command = ["--data", str(self.folder), "--json", "partners", *words]
        result = CliRunner().invoke(app, command, input=typed)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout) if status == 0 else result.stderr

    def car(self) -> Vehicle:
        """A vehicle that is registered here and trusts this ecosystem's root."""
        car = Vehicle(f"PVTPTRY{secrets.randbelow(10**10):010}")
        maker = VehicleMaker(self.roles[OEM])
        car.leaf, car.subs = maker.enrol(car.csr())
        maker.register(car.leaf, car.subs, [self.anchor])
        return car

    @property
    def anchor(self) -> bytes:
        return x509.load_pem_x509_certificate(self.root.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture(params=[False, True], ids=["http", "https"])
def separate(request: Any, tmp_path: Path, softhsm: Path) -> Iterator[tuple[Operated, Operated]]:
    with ExitStack() as stack:
        north, south = (
            Operated(stack, tmp_path / name, softhsm, request.param) for name in ("north", "south")
        )
        yield north, south


def test_two_separate_ecosystems_become_partners_by_commands(separate: tuple[Operated, Operated]):
    north, south = separate
    car = south.car()
    vehicle_path = f"/v1/oem/provCerts/{car.pcid}"

    to_north = north.types("apply", "south", south.url)
    to_south = south.types("apply", "north", north.url)
    assert "no link yet" in north.types("check", "south", status=2)
    for side, name, application, other_side in (
        (north, "south", to_south, south),
        (south, "north", to_north, north),
    ):
        trust = ("--trust", str(other_side.root)) if other_side.url.startswith("https") else ()
        link = ("link", name, "--client-id", application["client_id"], *trust)
        side.types(*link, typed=application["client_secret"] + "\n")

    # An application alone gives no rights, in neither direction.
    assert "is locked" in north.types("check", "south", status=1)
    with pytest.raises(OpcpError) as refused:
        north.roles[MO_EXTERNAL_PKI].call("GET", vehicle_path)
    assert refused.value.status == 404
    for side, name in ((north, "south"), (south, "north")):
        for state in ("audited", "active"):
            side.types("move", name, state)
    assert north.types("check", "south")["state"] == "active"
    assert south.types("check", "north")["roots"] > 0

    # The vehicle is found; its contract is made here, signed there, and handed out by both.
    answer_ = north.roles[MO_EXTERNAL_PKI].call("GET", vehicle_path)
    assert answer_["OEMMessage"]["vehicleCertificate"]
    now = time.time()
    generation = {
        "contractBegins": timestamp(now - 3600),
        "contractEnds": timestamp(now + 30 * 86_400),
        "emaid": "DEPVBCTRY00001",
        "pcid": car.pcid,
        "xsdMsgDefNamespace": ISO2,
    }
    north.roles[MO_HUBJECT_PKI].call("PUT", "/v1/cps/generate/signedContractData", json=generation)
    plugged = {
        "certificateInstallationReq": car.request(south.anchor),
        "xsdMsgDefNamespace": ISO2,
    }
    for side in (north, south):
        answer = side.roles[CPO].call("POST", "/v1/ccp/signedContractData", json=plugged)
        (content,) = answer["CCPResponse"]["emaidContent"]
        assert content["messageDef"]["emaid"].startswith("DEPVBCTRY00001")

    # One side alone ends the partnership.
    south.types("move", "north", "suspended")
    assert "is locked" in north.types("check", "south", status=1)

    def unseen() -> bool:  # within seconds: a token may be remembered for that long
        other_side = f"/v1/oem/provCerts/{south.car().pcid}"
        return north.roles[MO_EXTERNAL_PKI].request("GET", other_side).status_code == 404

    assert eventually(unseen)
