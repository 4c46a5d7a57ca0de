"""Two ecosystems that were started apart become partners: by their operators' commands alone."""

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
            role: stack.enter_context(OpcpClient(self.url, Credentials(**given), trust))
            for role, given in running.said["roles"].items()
        }

    def types(self, *words: str, said: str = "", status: int = 0) -> Any:
        command = ["--data", str(self.folder), "--json", "partners", *words]
        done = CliRunner().invoke(app, command, input=said)
        assert done.exit_code == status, done.output
        return json.loads(done.stdout) if status == 0 else done.stderr

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
def apart(request: Any, tmp_path: Path, softhsm: Path) -> Iterator[tuple[Operated, Operated]]:
    with ExitStack() as stack:
        north, south = (
            Operated(stack, tmp_path / name, softhsm, request.param) for name in ("north", "south")
        )
        yield north, south


def test_two_that_were_started_apart_become_partners_by_hand(apart: tuple[Operated, Operated]):
    north, south = apart
    car = south.car()
    where = f"/v1/oem/provCerts/{car.pcid}"

    to_north = north.types("apply", "south", south.url)
    to_south = south.types("apply", "north", north.url)
    assert "no link yet" in north.types("check", "south", status=2)
    for one, name, given, other in (
        (north, "south", to_south, south),
        (south, "north", to_north, north),
    ):
        trust = ("--trust", str(other.root)) if other.url.startswith("https") else ()
        link = ("link", name, "--client-id", given["client_id"], *trust)
        one.types(*link, said=given["client_secret"] + "\n")

    # An application alone is good for nothing, in neither direction.
    assert "not let in" in north.types("check", "south", status=1)
    with pytest.raises(OpcpError) as refused:
        north.roles[MO_EXTERNAL_PKI].call("GET", where)
    assert refused.value.status == 404
    for one, name in ((north, "south"), (south, "north")):
        for state in ("audited", "active"):
            one.types("move", name, state)
    assert north.types("check", "south")["state"] == "active"
    assert south.types("check", "north")["roots"] > 0

    # The vehicle is found, its contract made here, signed there, and handed out by either.
    found = north.roles[MO_EXTERNAL_PKI].call("GET", where)
    assert found["OEMMessage"]["vehicleCertificate"]
    now = time.time()
    asked = {
        "contractBegins": timestamp(now - 3600),
        "contractEnds": timestamp(now + 30 * 86_400),
        "emaid": "DEPVBCTRY00001",
        "pcid": car.pcid,
        "xsdMsgDefNamespace": ISO2,
    }
    north.roles[MO_HUBJECT_PKI].call("PUT", "/v1/cps/generate/signedContractData", json=asked)
    plugged = {
        "certificateInstallationReq": car.request(south.anchor),
        "xsdMsgDefNamespace": ISO2,
    }
    for one in (north, south):
        answer = one.roles[CPO].call("POST", "/v1/ccp/signedContractData", json=plugged)
        (content,) = answer["CCPResponse"]["emaidContent"]
        assert content["messageDef"]["emaid"].startswith("DEPVBCTRY00001")

    # It ends as it began, by one side's word.
    south.types("move", "north", "suspended")
    assert "not let in" in north.types("check", "south", status=1)

    def unseen() -> bool:  # within seconds: a token may be remembered for that long
        other = f"/v1/oem/provCerts/{south.car().pcid}"
        return north.roles[MO_EXTERNAL_PKI].request("GET", other).status_code == 404

    assert eventually(unseen)
