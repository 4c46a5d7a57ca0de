"""The charge point operator: its stations' certificates, and the vehicles' requests to CCP.

The operator announces a station before it requests the station's certificate, and forwards EXI
unchanged. It also gives its stations the roots of RCP, with which they check the vehicles'
contracts.
"""

import base64
from dataclasses import dataclass
from typing import Any

from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.roles import enrolment
from plugvault.roles.client import OpcpClient, OpcpError, encode

FETCH_TIMEOUT = 4.5  # seconds: a later answer is useless to a vehicle, which waits for 5
_ENTITIES = "/v1/vra/cpo/endEntities"
_ENTITY = {  # the field here, and its spelling by live clients
    "name": "commonName",
    "manufacturer": "manufacture",
    "device": "deviceName",
    "software": "deviceSWVersion",
    "serial": "evseSerialNumber",
    "iso": "evseISOversion",
    "ocpp": "ocppVersion",
    "charge_box": "chargeBoxSerialNumber",
}


@dataclass(frozen=True)
class StationEntry:
    """A charging station in the ecosystem's registry. `name`: the EVSEID, or the SECCID of ISO
    15118-20; it is the common name of its certificate. `evse_ids`: of its charge points."""

    name: str
    evse_ids: tuple[str, ...]
    manufacturer: str = ""
    device: str = ""
    software: str = ""
    serial: str = ""
    iso: str = "15118-2"
    ocpp: str = "2.0.1"
    charge_box: str = ""


class ChargePointOperator:
    """A charge point operator's backend for the pools. Every call raises OpcpError."""

    def __init__(self, client: OpcpClient) -> None:
        self.client = client

    def announce(self, station: StationEntry) -> None:
        """Announce a station, so that it may get a certificate. Raises OpcpError."""
        body = {wire: getattr(station, name) for name, wire in _ENTITY.items()}
        body["evseID"] = list(station.evse_ids)
        self.client.call("PUT", _ENTITIES, json=body)

    def stations(self) -> list[StationEntry]:
        """The operator's stations in the registry. Raises OpcpError."""
        return [
            StationEntry(
                **{name: entry.get(wire, "") for name, wire in _ENTITY.items()},
                evse_ids=tuple(entry.get("evseID", ())),
            )
            for entry in self.client.call("GET", _ENTITIES)
        ]

    def enrol(self, csr: bytes) -> tuple[bytes, list[bytes]]:
        """A certificate for a station's signing request (PKCS#10, DER): the leaf, [Sub2, Sub1].

        Raises as `enrolment.enrol`.
        """
        return enrolment.enrol(self.client, "cpo", csr)

    def renew(self, csr: bytes) -> tuple[bytes, list[bytes]]:
        """The station's next certificate, before the current one ends. Arguments, result and
        errors as `enrol`."""
        return enrolment.enrol(self.client, "cpo", csr, renew=True)

    def fetch_contract(self, request: bytes) -> bytes:
        """The CertificateInstallationRes for a CertificateInstallationReq, both raw EXI.

        A negative answer of the pool is EXI for the vehicle, too. Raises OpcpError when the pool
        answers without EXI (the request is wrong) or cannot be reached.
        """
        answer = self.client.request(
            "POST",
            "/v1/ccp/signedContractData",
            json={"certificateInstallationReq": encode(request), "xsdMsgDefNamespace": ISO2},
            headers={"alwaysReturnEXI": "true"},
            timeout=FETCH_TIMEOUT,
            repeatable=True,
        )
        try:
            return base64.b64decode(_message(answer.json()))
        except (ValueError, KeyError, IndexError, TypeError):
            raise OpcpError("refused", f"{answer.status_code}: {answer.text[:300]}") from None

    def roots(self) -> list[bytes]:
        """The MO and V2G roots under which a station accepts contracts, DER."""
        return self.client.roots("MO", "V2G")


def _message(answer: dict[str, Any]) -> str:
    message: str = answer["CCPResponse"]["emaidContent"][0]["messageDef"][
        "certificateInstallationRes"
    ]
    return message
