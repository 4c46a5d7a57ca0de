"""The charge point operator: carries a vehicle's request to CCP and the answer back.

It forwards EXI as it is. What a charging station needs to know the vehicles' contracts by, the
roots of RCP, comes from here too.
"""

import base64
from typing import Any

from plugvault.contract.bundle import ISO2
from plugvault.roles.client import OpcpClient, OpcpError, encode


class ChargePointOperator:
    """A charge point operator's backend towards the pools."""

    def __init__(self, client: OpcpClient) -> None:
        self.client = client

    def fetch_contract(self, request: bytes) -> bytes:
        """CertificateInstallationReq in, CertificateInstallationRes out, both raw EXI.

        Also returns the pool's negative answer, which is EXI for the vehicle. Raises OpcpError
        when the pool has no EXI to give (the request is wrong, or the pool cannot be reached).
        """
        answer = self.client.request(
            "POST",
            "/v1/ccp/signedContractData",
            json={"certificateInstallationReq": encode(request), "xsdMsgDefNamespace": ISO2},
            headers={"alwaysReturnEXI": "true"},
        )
        try:
            return base64.b64decode(_message(answer.json()))
        except (ValueError, KeyError, IndexError, TypeError):
            raise OpcpError("refused", f"{answer.status_code}: {answer.text[:300]}") from None

    def roots(self) -> list[bytes]:
        """DER of the roots under which a station accepts contracts: MO and V2G."""
        return self.client.roots("MO", "V2G")


def _message(answer: dict[str, Any]) -> str:
    message: str = answer["CCPResponse"]["emaidContent"][0]["messageDef"][
        "certificateInstallationRes"
    ]
    return message
