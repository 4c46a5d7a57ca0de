"""The vehicle maker: it enrols and registers vehicles, and gets their contracts for installation
over the air.

The maker checks a contract before it forwards it, because the pool does not [V2G2-894]: the CPS's
signature and path, the contract's path, every date, the revocation of each certificate, and the
EMAID.
"""

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evcc import chain, exi, signature
from evcc.errors import EvccError
from evcc.x509 import CertificateError
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.pki.verify import verify_p256
from plugvault.roles import regions
from plugvault.roles.client import OpcpClient, encode
from plugvault.roles.enrolment import enrol


class ForwardError(EvccError):
    """A bundle that the maker does not forward to its vehicle. The text has the check that
    failed."""

    REASONS = ("format", "signature", "path", "expired", "revoked", "wrong-contract")


# Whether a certificate of a path is revoked: DER, leaf first, root last. Raises OpcpError when the
# responder gives no usable answer now.
Revoked = Callable[[Sequence[bytes]], bool]


@dataclass(frozen=True)
class Pulled:
    """A checked bundle. `message`: the CertificateInstallationRes in EXI."""

    emaid: str
    pcid: str
    message: bytes


class VehicleMaker:
    """A vehicle maker's backend for the pools. `clock()`: Unix seconds; `revoked`: asks the
    certificates' OCSP responders."""

    def __init__(
        self,
        client: OpcpClient,
        clock: Callable[[], float] = time.time,
        revoked: Revoked = lambda path: False,
    ) -> None:
        self.client = client
        self._clock = clock
        self._revoked = revoked

    def enrol(self, csr: bytes) -> tuple[bytes, list[bytes]]:
        """A provisioning certificate for a vehicle's CSR (DER): the leaf, and [Sub2, Sub1].

        Raises OpcpError; RequestError or CertificateError when the answer is not usable.
        """
        return enrol(self.client, "oem", csr)

    def register(
        self, leaf: bytes, subs: Sequence[bytes], v2g_roots: Sequence[bytes] = ()
    ) -> dict[str, Any]:
        """Store a vehicle in PCP. Returns the pool's answer.

        `leaf`: DER; `subs`: [Sub2, Sub1] or [Sub1]; `v2g_roots`: of the vehicle, DER. Raises
        OpcpError.
        """
        *sub2, sub1 = subs
        identifiers = [(path.read(root).ski or b"").hex(":") for root in v2g_roots]
        stored: dict[str, Any] = self.client.call(
            "PUT",
            "/v1/oem/provCerts",
            json={
                "vehicleCertificate": encode(leaf),
                "subCA1Certificate": encode(sub1),
                **({"subCA2Certificate": encode(sub2[0])} if sub2 else {}),
                **({"v2gRootAuthorityKeyIdentifiers": identifiers} if identifiers else {}),
            },
        )
        return stored

    def anchors(self, region: str, leaf: bytes, subs: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """The trust anchors for a vehicle of this sales region: (kind, DER).

        `leaf`, `subs`: its provisioning certificate and [Sub2, Sub1]. Raises OpcpError,
        `evcc.x509.CertificateError`, ValueError for an unknown region.
        """
        roots = self.client.roots_by_kind()
        own = [*roots.get("OEM", ()), *roots.get("V2G", ())]
        anchor = path.validate(leaf, subs, own, chain.PROVISIONING, self._clock())
        return regions.anchors(region, roots, anchor.der)

    def point(self, pcid: str) -> bytes:
        """The key of a vehicle's provisioning certificate in PCP: 65 bytes. Raises OpcpError."""
        message = self.client.call("GET", f"/v1/oem/provCerts/{pcid}")["OEMMessage"]
        point: bytes = path.read(base64.b64decode(message["vehicleCertificate"])).point
        return point

    def enter(self, vin: str, plate: str | None, pcid: str, document: str) -> None:
        """Store a vehicle in the vehicle registry, where its customer's operator finds it.

        `plate`: None for a vehicle without one; `document`: the number of its registration
        document. Raises OpcpError.
        """
        row = {"vin": vin, "pcid": pcid, "registrationDocument": document}
        self.client.call(
            "PUT", "/v1/registry/vehicles", json={**row, **({"plate": plate} if plate else {})}
        )

    def contracts(self, pcid: str) -> list[dict[str, Any]]:
        """The vehicle's contracts in CCP, as OPCP's XMLContracts. Raises OpcpError."""
        contracts: list[dict[str, Any]] = self.client.call(
            "GET", f"/v1/ccp/signedContractData/{pcid}"
        )["XMLContracts"]
        return contracts

    def choose(self, pcid: str, emaid: str) -> None:
        """Make a contract the one that stations install. Raises OpcpError."""
        self.client.call("POST", f"/v1/ccp/signedContractData/{pcid}/{emaid}/default")

    def pull(self, emaid: str, pcid: str) -> Pulled:
        """A checked contract for a vehicle, ready to be forwarded.

        Raises OpcpError, or ForwardError when the bundle must not reach the vehicle.
        """
        answer = self.client.call("GET", f"/v1/ccp/provideSignedContractData/{emaid}/{pcid}")
        message = base64.b64decode(answer["certificateInstallationRes"])
        self.check(message, emaid)
        return Pulled(emaid, pcid, message)

    def check(self, message: bytes, emaid: str) -> None:
        """Check a bundle (EXI) before it goes to a vehicle, with the pool's current roots: see
        `check`.

        Raises ForwardError, and OpcpError when the pool gives no roots.
        """
        roots = self.client.roots_by_kind()
        v2g, mo = roots.get("V2G", []), roots.get("MO", [])
        check(message, emaid, v2g, mo, self._clock(), self._revoked)


def check(
    message: bytes,
    emaid: str,
    v2g_roots: Sequence[bytes],
    mo_roots: Sequence[bytes],
    now: float,
    revoked: Revoked = lambda path: False,
) -> None:
    """The maker's checks of a bundle before it goes to a vehicle [V2G2-894].

    They include the contract's own path: the vehicle leaves that check to the CPS, and would not
    notice a CPS that signs a wrong contract. Revocation is last: only certificates of valid paths
    may name an address to call. Raises ForwardError.
    """
    try:
        bundle = response.read(exi.decode(message))
    except (exi.ExiError, response.ResponseError) as error:
        raise ForwardError("format", str(error)) from error
    contract = bundle.contract
    certificates = (bundle.cps, *bundle.cps_subs, contract.certificate, *contract.subs)
    try:
        if any(path.read(certificate).not_after < now for certificate in certificates):
            raise ForwardError("expired", "a certificate of the bundle")
        cps_root = path.validate(bundle.cps, bundle.cps_subs, v2g_roots, chain.CPS, now)
        mo_root = path.validate(
            contract.certificate, contract.subs, [*mo_roots, *v2g_roots], chain.CONTRACT, now
        )
    except CertificateError as error:
        raise ForwardError("path", str(error)) from error
    try:
        signature.verify(
            bundle.signature, list(bundle.signed), path.read(bundle.cps).point, verify_p256
        )
    except signature.SignatureError as error:
        raise ForwardError("signature", str(error)) from error
    names = {contract.emaid, path.read(contract.certificate).names.get("CN")}
    if names != {emaid}:
        raise ForwardError("wrong-contract", f"{sorted(map(str, names))} instead of {emaid}")
    for name, certificates in (
        ("CPS", (bundle.cps, *bundle.cps_subs, cps_root.der)),
        ("contract", (contract.certificate, *contract.subs, mo_root.der)),
    ):
        if revoked(certificates):
            raise ForwardError("revoked", f"a certificate of the {name}'s path")
