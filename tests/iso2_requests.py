"""A request of every type that the schema of ISO 15118-2 has: {name: body}, as plain values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from evcc.iso15118_2 import messages

EMAID = "DEPVT0000000012"
_ROOT = SimpleNamespace(names={"CN": "R"}, serial=1)


def value(unit: str, number: int) -> dict[str, Any]:
    return {"Multiplier": 0, "Unit": unit, "Value": number}


EV_STATUS = {"EVReady": True, "EVErrorCode": "NO_ERROR", "EVRESSSOC": 50}
METER = {"MeterID": "PLUGVAULT-1", "MeterReading": 0, "TMeter": 0}
REQUESTS: dict[str, dict[str, Any]] = {
    "SessionSetupReq": messages.session_setup_req(bytes(6)),
    "ServiceDiscoveryReq": messages.service_discovery_req(),
    "ServiceDetailReq": messages.service_detail_req(2),
    "PaymentServiceSelectionReq": messages.payment_service_selection_req(
        "Contract", [(1, None), (2, 1)]
    ),
    "PaymentDetailsReq": messages.payment_details_req(EMAID, [b"leaf", b"sub"]),
    "AuthorizationReq": messages.authorization_req("id1", bytes(16)),
    "CertificateInstallationReq": messages.certificate_installation_req("i", b"leaf", [_ROOT]),
    "CertificateUpdateReq": {
        "Id": "id1",
        "ContractSignatureCertChain": messages.certificate_chain([b"leaf", b"sub"]),
        "eMAID": EMAID,
        "ListOfRootCertificateIDs": {
            "RootCertificateID": [{"X509IssuerName": "CN=R", "X509SerialNumber": 1}]
        },
    },
    "ChargeParameterDiscoveryReq": {
        "RequestedEnergyTransferMode": "DC_extended",
        "DC_EVChargeParameter": {
            "DC_EVStatus": EV_STATUS,
            "EVMaximumCurrentLimit": value("A", 100),
            "EVMaximumVoltageLimit": value("V", 400),
        },
    },
    "PowerDeliveryReq": {"ChargeProgress": "Start", "SAScheduleTupleID": 1},
    "ChargingStatusReq": {},
    "MeteringReceiptReq": {
        "Id": "id1",
        "SessionID": bytes(8),
        "SAScheduleTupleID": 1,
        "MeterInfo": METER,
    },
    "CableCheckReq": {"DC_EVStatus": EV_STATUS},
    "PreChargeReq": {
        "DC_EVStatus": EV_STATUS,
        "EVTargetVoltage": value("V", 400),
        "EVTargetCurrent": value("A", 1),
    },
    "CurrentDemandReq": {
        "DC_EVStatus": EV_STATUS,
        "EVTargetCurrent": value("A", 16),
        "ChargingComplete": False,
        "EVTargetVoltage": value("V", 400),
    },
    "WeldingDetectionReq": {"DC_EVStatus": EV_STATUS},
    "SessionStopReq": messages.session_stop_req(),
}
