"""The mobility operator: from a vehicle to a signed contract in CCP, and to its end.

With an own PKI it issues and seals the contract itself and has the CPS sign it; without one it
has the ecosystem do so. Which vehicles a customer may name is decided by the vehicle registry;
what the operator keeps of its customers is in `customers`.
"""

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from evcc import chain, ids
from evcc.errors import EvccError
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.contract.issue import ContractData, issue_contract
from plugvault.pki import path
from plugvault.pki.issue import Authority
from plugvault.pki.names import timestamp
from plugvault.roles.client import OpcpClient, OpcpError, contract_data

_INSTANCE = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_YEAR = 365 * 86_400


class EntitlementError(EvccError):
    """A customer who has not shown to be the one who may use the vehicle. Nothing more is told:
    neither whether there is such a vehicle, nor who has it."""

    REASONS = ("not-entitled",)


@dataclass(frozen=True)
class ProvisioningChain:
    """A provisioning certificate whose path the operator has checked itself."""

    pcid: str
    certificate: bytes
    subs: tuple[bytes, ...]


class Operator:
    """A mobility operator's backend. `provider`: country and provider, as in "DEABC".

    `authority`: the Sub2 of its own PKI, None for an operator that uses the ecosystem's;
    `check_path`: check a vehicle's path again, which PCP has checked already; `on_issue`: told of
    each certificate (DER) its own PKI issues, for who answers for their status at `ocsp`.
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
        """A new EMAID of this provider, with its check digit, that no contract in CCP has.

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
        """The PCID of a vehicle that a customer names, and shows to be the one who may use.

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
        """A new customer: a contract for the vehicle they name; its EMAID. As `identify`."""
        return self.contract(self.identify(kind, text, document))

    def terminate(self, emaid: str) -> None:
        """End a contract: deleted in CCP, revoked where the ecosystem issued it, taken out of the
        vehicle by its maker. Raises OpcpError."""
        self.client.call("DELETE", f"/v1/ccp/signedContractData/{emaid}")

    def replace(self, emaid: str, pcid: str) -> str:
        """A contract under a new EMAID in the place of another, which then ends; the new one."""
        new = self.contract(pcid)
        self.terminate(emaid)
        return new

    def vehicle(self, pcid: str) -> ProvisioningChain:
        """A vehicle from PCP. That it is the one asked for is checked in any case: whoever has
        its key can open what is sealed to it. Its path against the roots of RCP, unless told not
        to: PCP has done so.

        Raises OpcpError, `evcc.x509.CertificateError`.
        """
        found = self.client.call("GET", f"/v1/oem/provCerts/{pcid}")["OEMMessage"]
        names = ("subCA2Certificate", "subCA1Certificate")
        subs = tuple(base64.b64decode(found[name]) for name in names if found.get(name))
        certificate = base64.b64decode(found["vehicleCertificate"])
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
        """A contract for a vehicle, signed and stored in CCP; its EMAID. With the EMAID of one
        that the vehicle has it is renewed: a new key and certificate in the old one's place.

        `begins`, `ends`: Unix seconds; an hour ago and a year from then when not given.
        Raises OpcpError; IssueError; `evcc.x509.CertificateError` when the vehicle's path fails.
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
        """Issue and seal with the own PKI; the plain key is gone when this returns."""
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
        """Have the CPS sign contract data, and with `pcid` store it; the signed XML."""
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
        )


def with_check_digit(emaid: str) -> str:
    """An EMAID in the form that goes over the wire, with its check digit: "GB-OCT-C1234ABCD" is
    "GBOCTC1234ABCDJ". Raises IdError, also for a check digit that is wrong."""
    normal = ids.parse_emaid(emaid)
    whole = normal[:14] + ids.emaid_check_digit(normal)
    if normal not in (whole, whole[:14]):
        raise ids.IdError("character", "the check digit is wrong")
    return whole
