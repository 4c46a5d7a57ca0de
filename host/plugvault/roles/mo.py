"""The mobility operator: it makes contracts for vehicles, and ends them.

An operator with its own PKI issues and seals the contract, and the CPS signs it; without a PKI
the ecosystem does all of it. The vehicle registry decides which vehicles a customer may name. The
operator's own records of its customers are in `customers`.
"""

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from evcc import chain, ids
from evcc.check_digit import emaid_check_digit
from evcc.errors import EvccError
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.pki import path
from plugvault.pki.issue import Authority
from plugvault.pki.names import timestamp
from plugvault.roles.client import OpcpClient, OpcpError, contract_data

_INSTANCE = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_YEAR = 365 * 86_400


class EntitlementError(EvccError):
    """A customer without proof of a right to the vehicle ("not-entitled"). The error tells neither
    whether the vehicle exists nor its owner."""

    REASONS = ("not-entitled",)


@dataclass(frozen=True)
class ProvisioningChain:
    """A vehicle's provisioning certificate, whose path the operator has checked. certificate: DER;
    subs: DER, Sub2 first."""

    pcid: str
    certificate: bytes
    subs: tuple[bytes, ...]


class Operator:
    """A mobility operator's backend. `provider`: country and provider, as in "DEABC".

    `authority`: the Sub2 of its own PKI, None for an operator that uses the ecosystem's;
    `clock()`: Unix seconds; `check_path`: check a vehicle's path again after PCP; `on_issue`:
    called with each certificate (DER) that its own PKI issues, to record its status for the
    responder at `ocsp`.
    """

    def __init__(
        self,
        client: OpcpClient,
        provider: str,
        authority: Authority | None = None,
        ocsp: str | None = None,
        clock: Callable[[], float] = time.time,
        check_path: bool = True,
        on_issue: Callable[[bytes], object] = lambda certificate: None,
    ) -> None:
        self.client = client
        self.provider = provider
        self._authority = authority
        self._ocsp = ocsp
        self._clock = clock
        self._check_path = check_path
        self._on_issue = on_issue

    def new_emaid(self) -> str:
        """A new EMAID of this provider, with its check digit. No contract in CCP has it.

        Raises OpcpError.
        """
        while True:
            instance = "".join(secrets.choice(_INSTANCE) for _ in range(8))
            emaid = with_check_digit(f"{self.provider}C{instance}")
            if not self.is_taken(emaid):
                return emaid

    def is_taken(self, emaid: str) -> bool:
        """Whether CCP holds a contract under an EMAID of this provider. Raises OpcpError."""
        try:
            self.client.call("GET", f"/v1/ccp/lookupContract/{emaid}")
        except OpcpError as error:
            if error.status == 404:
                return False
            raise
        return True

    def identify(self, kind: str, text: str, document: str) -> str:
        """The PCID of a customer's vehicle, after proof of the customer's right to it.

        `kind`: "pcid", "vin" or "plate"; `document`: the number of the registration document.
        Raises EntitlementError, OpcpError.
        """
        body = {kind: text, "registrationDocument": document}
        try:
            pcid: str = self.client.call("POST", "/v1/registry/vehicles/lookup", json=body)["pcid"]
        except OpcpError as error:
            if error.status != 403:
                raise
            raise EntitlementError("not-entitled", error.detail) from error
        return pcid

    def onboard(self, kind: str, text: str, document: str) -> str:
        """Make a contract for a new customer's vehicle. Returns its EMAID. Arguments as
        `identify`; errors as `identify` and `contract`."""
        return self.contract(self.identify(kind, text, document))

    def terminate(self, emaid: str) -> None:
        """End a contract: CCP deletes it, the ecosystem revokes it if one of its CAs issued it,
        and the maker removes it from the vehicle. Raises OpcpError."""
        self.client.call("DELETE", f"/v1/ccp/signedContractData/{emaid}")

    def replace(self, emaid: str, pcid: str) -> str:
        """Make a contract under a new EMAID and end the old one. Returns the new EMAID. Raises as
        `contract`."""
        new = self.contract(pcid)
        self.terminate(emaid)
        return new

    def vehicle(self, pcid: str) -> ProvisioningChain:
        """A vehicle's certificate from PCP.

        Its PCID is always checked, because the holder of its key can open a contract that is
        sealed to it; its path only with `check_path`. Raises OpcpError,
        `evcc.x509.CertificateError`.
        """
        message = self.client.call("GET", f"/v1/oem/provCerts/{pcid}")["OEMMessage"]
        names = ("subCA2Certificate", "subCA1Certificate")
        subs = tuple(base64.b64decode(message[name]) for name in names if message.get(name))
        certificate = base64.b64decode(message["vehicleCertificate"])
        if self._check_path:
            anchors = self.client.roots("OEM", "V2G")
            path.validate(certificate, subs, anchors, chain.PROVISIONING, self._clock())
        name = path.read(certificate).names["CN"]
        if name.upper() != pcid.upper():
            raise OpcpError("answer", f"the vehicle {name} instead of {pcid}")
        return ProvisioningChain(pcid, certificate, subs)

    def contract(
        self,
        pcid: str,
        emaid: str | None = None,
        begins: float | None = None,
        ends: float | None = None,
    ) -> str:
        """Make a contract for a vehicle, signed and stored in CCP. Returns its EMAID.

        With the EMAID of an existing contract, a new key and certificate replace the old ones.
        `begins`, `ends`: Unix seconds; default: an hour ago, and a year after that. Raises
        OpcpError; IssueError; `evcc.x509.CertificateError` when the vehicle's path fails.
        """
        emaid = emaid or self.new_emaid()
        if self._authority is None:
            self._generate(pcid, emaid, begins, ends)
        else:
            self.sign(self.issue(self.vehicle(pcid), emaid, begins, ends), pcid)
        return emaid

    def issue(
        self,
        vehicle: ProvisioningChain,
        emaid: str,
        begins: float | None = None,
        ends: float | None = None,
    ) -> ContractData:
        """Issue and seal a contract with the operator's own PKI. The plain key is not kept.
        `begins`, `ends`: Unix seconds.

        Raises IssueError; ValueError for an operator without a PKI.
        """
        if self._authority is None:
            raise ValueError("this operator has no PKI of its own")
        data = issue_contract(
            emaid,
            vehicle.certificate,
            self._authority,
            self._clock(),
            begins=begins,
            ends=ends,
            ocsp=self._ocsp,
        )
        self._on_issue(data.certificate)
        return data

    def sign(self, data: ContractData, pcid: str | None = None) -> bytes:
        """The signed XML of contract data, from the CPS. With `pcid` CCP also stores the contract.
        Raises OpcpError."""
        answer = self.client.call(
            "PUT",
            "/v1/cps/contractData/signed",
            json={
                "contractData": contract_data(data),
                "xsdMsgDefNamespace": ISO2,
                **({"pcid": pcid} if pcid else {}),
            },
        )
        return base64.b64decode(answer["signedData"])

    def _generate(self, pcid: str, emaid: str, begins: float | None, ends: float | None) -> None:
        start = self._clock() - 3600 if begins is None else begins
        self.client.call(
            "PUT",
            "/v1/cps/generate/signedContractData",
            json={
                "contractBegins": timestamp(start),
                "contractEnds": timestamp(start + _YEAR if ends is None else ends),
                "emaid": emaid,
                "pcid": pcid,
                "xsdMsgDefNamespace": ISO2,
            },
            repeatable=False,  # a second request would make a second certificate
        )


def with_check_digit(emaid: str) -> str:
    """An EMAID in its wire form, with the check digit: "GBOCTC1234ABCDJ" for "GB-OCT-C1234ABCD".

    Raises IdError, also for a wrong check digit.
    """
    normal = ids.parse_emaid(emaid)
    complete = normal[:14] + emaid_check_digit(normal)
    if normal not in (complete, complete[:14]):
        raise ids.IdError("character", "the check digit is wrong")
    return complete
