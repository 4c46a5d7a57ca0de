"""Vehicles to begin with: real certificates for keys in a token, made as their maker makes them.

Every one is in PCP and in the vehicle registry; the first has a contract, too. All of it goes
over HTTP, so what a newcomer tries first has just been done.
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from evcc import csr
from plugvault.ecosystem.authorities import find_or_make
from plugvault.ecosystem.companies import MAKER
from plugvault.ecosystem.folder import Folder
from plugvault.pki.keys import raw_signer
from plugvault.roles.mo import Operator
from plugvault.roles.oem import VehicleMaker
from plugvault.tokens import Token

TOKEN = "vehicles"  # noqa: S105 - the label of a token, not its PIN


@dataclass(frozen=True)
class Sample:
    """`document`: the number of its registration document; `emaid`: of its contract, if any."""

    pcid: str
    vin: str
    plate: str
    document: str
    emaid: str | None = None

    def as_data(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value}


# Number plate, and whether it begins with a contract.
CARS = (("B-PV {}01E", True), ("M-PV {}02E", False), ("LB2{} PVT", False))


def provide(
    folder: Folder,
    token: Token,
    maker: VehicleMaker,
    operator: Operator,
    trusts: Sequence[bytes],
    series: int = 1,
) -> list[Sample]:
    """The sample vehicles; what is missing is made. Raises OpcpError.

    `trusts`: the V2G roots in them, DER; `series`: 1 to 9, another for each ecosystem.
    """
    samples = []
    for number, (plate, contracted) in enumerate(CARS, 1):
        pcid, vin = f"PVTPSAMPLE0000{series}0{number}", f"PVTZZZ9PZRA000{series}0{number}"
        document = folder.secret("documents", pcid, lambda: secrets.token_hex(5).upper())
        sample = Sample(pcid, vin, plate.format(series), document)
        if not _known(maker, pcid):
            _register(token, maker, trusts, sample)
            if contracted:
                operator.contract(pcid)
        emaids = [contract["emaid"] for contract in maker.contracts(pcid)]
        samples.append(replace(sample, emaid=emaids[0] if emaids else None))
    return samples


def _known(maker: VehicleMaker, pcid: str) -> bool:
    at, only_here = f"/v1/oem/provCerts/lookupVehicle/{pcid}", {"broadcast": "true"}
    return maker.client.request("GET", at, headers=only_here).is_success


def _register(token: Token, maker: VehicleMaker, trusts: Sequence[bytes], sample: Sample) -> None:
    key = find_or_make(lambda: token.key(sample.pcid), lambda: token.generate(sample.pcid))
    request = csr.build(sample.pcid, MAKER, "DE", key.point, raw_signer(key))
    leaf, subs = maker.enrol(request)
    maker.register(leaf, subs, trusts)
    maker.client.call(
        "PUT",
        "/v1/registry/vehicles",
        json={
            "vin": sample.vin,
            "plate": sample.plate,
            "pcid": sample.pcid,
            "registrationDocument": sample.document,
        },
    )
