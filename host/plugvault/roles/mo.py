"""The mobility operator: from a PCID to a signed contract in CCP.

With an own PKI it issues and seals the contract itself and has the CPS sign it; without one it
has the ecosystem do so. Which vehicles a customer may name is not decided here.
"""

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from evcc import chain, ids
from plugvault.contract.bundle import ISO2
from plugvault.contract.issue import ContractData, issue_contract
from plugvault.pki import path
from plugvault.pki.issue import Authority
from plugvault.pki.names import timestamp
from plugvault.roles.client import OpcpClient, OpcpError, encode

_INSTANCE = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_YEAR = 365 * 86_400


@dataclass(frozen=True)
class Vehicle:
    """A provisioning certificate whose path the operator has checked itself."""

    pcid: str
    certificate: bytes
    subs: tuple[bytes, ...]


class Operator:
    """A mobility operator's backend. `provider`: country and provider, as in "DEABC".

    `authority`: the Sub2 of its own PKI, None for an operator that uses the ecosystem's.
    """

    def __init__(
        self,
        client: OpcpClient,
        provider: str,
        authority: Authority | None = None,
        ocsp: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.provider = provider
        self._authority = authority
        self._ocsp = ocsp
        self._clock = clock

    def new_emaid(self) -> str:
        """A new EMAID of this provider, with its check digit."""
        instance = "".join(secrets.choice(_INSTANCE) for _ in range(8))
        base = f"{self.provider}C{instance}"
        return base + ids.emaid_check_digit(base)

    def vehicle(self, pcid: str) -> Vehicle:
        """A vehicle from PCP: its path is checked again against the roots of RCP, and that it is
        the vehicle asked for, for whoever has its key can open what is sealed to it.

        Raises OpcpError, `evcc.x509.CertificateError`.
        """
        found = self.client.call("GET", f"/v1/oem/provCerts/{pcid}")["OEMMessage"]
        names = ("subCA2Certificate", "subCA1Certificate")
        subs = tuple(base64.b64decode(found[name]) for name in names if found.get(name))
        certificate = base64.b64decode(found["vehicleCertificate"])
        path.validate(
            certificate, subs, self.client.roots("OEM", "V2G"), chain.PROVISIONING, self._clock()
        )
        name = path.read(certificate).names["CN"]
        if name.upper() != pcid.upper():
            raise OpcpError("answer", f"the vehicle {name} instead of {pcid}")
        return Vehicle(pcid, certificate, subs)

    def contract(
        self,
        pcid: str,
        emaid: str | None = None,
        begins: float | None = None,
        ends: float | None = None,
    ) -> str:
        """A new contract for a vehicle, signed and stored in CCP; its EMAID.

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
        vehicle: Vehicle,
        emaid: str,
        begins: float | None = None,
        ends: float | None = None,
    ) -> ContractData:
        """Issue and seal with the own PKI; the plain key is gone when this returns."""
        if self._authority is None:
            raise ValueError("this operator has no PKI of its own")
        return issue_contract(
            emaid,
            vehicle.certificate,
            self._authority,
            self._clock(),
            begins=begins,
            ends=ends,
            ocsp=self._ocsp,
        )

    def sign(self, data: ContractData, pcid: str | None = None) -> bytes:
        """Have the CPS sign contract data, and with `pcid` store it; the signed XML."""
        *sub2, sub1 = data.subs
        answer = self.client.call(
            "PUT",
            "/v1/cps/contractData/signed",
            json={
                "contractData": {
                    "contractCertificate": encode(data.certificate),
                    **({"contractSubCa2Certificate": encode(sub2[0])} if sub2 else {}),
                    "contractSubCa1Certificate": encode(sub1),
                    "contractSignatureEncryptedPrivateKey": encode(data.wrapped),
                    "dHpublickey": encode(data.dh_point),
                },
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
