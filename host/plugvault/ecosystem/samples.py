"""Sample vehicles: real certificates for keys in a token, made as their maker makes them.

Every vehicle is in PCP and in the vehicle registry; the first also has a contract. Everything is
done over HTTP, so the first calls of a new user have just been made once.
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
    """A sample vehicle. `document`: the number of its registration document; `emaid`: of its
    contract, None without one."""

    pcid: str
    vin: str
    plate: str
    document: str
    emaid: str | None = None

    def as_data(self) -> dict[str, str]:
        """The values that are set, as plain data."""
        return {name: value for name, value in asdict(self).items() if value}


# Number plate, and whether the vehicle has a contract.
CARS = (("B-PV {}01E", True), ("M-PV {}02E", False), ("LB2{} PVT", False))


def provide(
    folder: Folder,
    token: Token,
    maker: VehicleMaker,
    operator: Operator,
    v2g_roots: Sequence[bytes],
    series: int = 1,
) -> list[Sample]:
    """The sample vehicles; missing ones are made. Raises OpcpError.

    `v2g_roots`: in the vehicles, DER; `series`: 1 to 9, another for each ecosystem.
    """
    samples = []
    for number, (plate, contracted) in enumerate(CARS, 1):
        pcid, vin = f"PVTPSAMPLE0000{series}0{number}", f"PVTZZZ9PZRA000{series}0{number}"
        document = folder.secret("documents", pcid, lambda: secrets.token_hex(5).upper())
        sample = Sample(pcid, vin, plate.format(series), document)
        if not _is_registered(maker, pcid):
            _register(token, maker, v2g_roots, sample)
            if contracted:
                operator.contract(pcid)
        emaids = [contract["emaid"] for contract in maker.contracts(pcid)]
        samples.append(replace(sample, emaid=emaids[0] if emaids else None))
    return samples


def _is_registered(maker: VehicleMaker, pcid: str) -> bool:
    path, own_only = f"/v1/oem/provCerts/lookupVehicle/{pcid}", {"broadcast": "true"}
    return maker.client.request("GET", path, headers=own_only).is_success


def _register(
    token: Token, maker: VehicleMaker, v2g_roots: Sequence[bytes], sample: Sample
) -> None:
    key = find_or_make(lambda: token.key(sample.pcid), lambda: token.generate(sample.pcid))
    request = csr.build(sample.pcid, MAKER, "DE", key.point, raw_signer(key))
    leaf, subs = maker.enrol(request)
    maker.register(leaf, subs, v2g_roots)
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
