"""A certificate from the ecosystem's CAs for a signing request, by EST [RFC 7030]."""

import base64
from collections.abc import Sequence

from plugvault.pki import path
from plugvault.pki.request import read_certs_only
from plugvault.pki.schemes import EDITION2
from plugvault.roles.client import OpcpClient


def enrol(
    client: OpcpClient, ca: str, csr: bytes, renew: bool = False
) -> tuple[bytes, list[bytes]]:
    """The leaf for a signing request (PKCS#10, DER), and [Sub2, Sub1], DER each.

    `ca`: "oem", "cpo"; `renew`: the subject has a certificate already. Raises OpcpError;
    RequestError or CertificateError when the answer is not usable.
    """
    answer = client.content(
        "POST",
        f"/.well-known/est/{ca}/simple{'re' if renew else ''}enroll/{EDITION2}",
        content=base64.b64encode(csr),
        headers={"Content-Type": "application/pkcs10"},
    )
    leaf = read_certs_only(answer)[0]
    return leaf, issuers(client, ca, leaf)


def issuers(client: OpcpClient, ca: str, leaf: bytes) -> list[bytes]:
    """The sub-CAs above a leaf: [Sub2, Sub1], DER. Raises as `enrol`."""
    answer = client.content("GET", f"/{ca}/cacerts/{EDITION2}/secp256r1/")
    return _order(leaf, read_certs_only(answer))


def _order(leaf: bytes, certificates: Sequence[bytes]) -> list[bytes]:
    """The sub-CAs above `leaf` among EST's certificates, nearest first, without the root."""
    above = {path.read(der).subject: der for der in certificates}
    subs: list[bytes] = []
    current = path.read(leaf)
    while current.issuer in above and len(subs) < len(above):
        current = path.read(above[current.issuer])
        if current.issuer == current.subject:
            break
        subs.append(current.der)
    return subs
