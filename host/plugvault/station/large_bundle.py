"""A response with a contract that is larger than necessary, and still valid.

Signed elements cannot grow. The message's signature does not cover the chain of the provisioning
service (each certificate in it has its issuer's signature), and ISO 15118-2 allows four sub-CA
certificates of 800 bytes in it. Certificates without a use fill the free places. A vehicle finds
its path by the issuers' names, and ignores the others.
"""

import datetime as dt
import secrets
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evcc import exi

LARGEST = 800  # bytes of a certificate [certificateType]
_PLACES = 4  # sub-CA certificates in a chain [SubCertificatesType]
_OID = x509.ObjectIdentifier("2.25.329800735698586629295641978511506172918")  # a random one


def enlarged(message: dict[str, Any], name: str, size: int) -> bytes:
    """The message as EXI of `size` bytes or some more, and less only where the standard's limits
    end before. name: of the response in it. The dict itself is changed."""
    body = message["V2G_Message"]["Body"][name]
    chain = body["SAProvisioningCertificateChain"]
    subs = chain.setdefault("SubCertificates", {"Certificate": []})["Certificate"]
    encoded = exi.encode(message)
    while len(encoded) < size and len(subs) < _PLACES:
        subs.append(_certificate(size - len(encoded)))
        encoded = exi.encode(message)
    return encoded


def _certificate(size: int) -> bytes:
    """A certificate of about `size` bytes, `LARGEST` at most."""
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = min(size, LARGEST)
    padding = max(wanted - len(_padded(key, 0)), 0)
    while True:  # the padding's lengths and the signature differ by some bytes
        certificate = _padded(key, padding)
        if len(certificate) <= LARGEST:
            return certificate
        padding -= len(certificate) - LARGEST


def _padded(key: ec.EllipticCurvePrivateKey, padding: int) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Padding of a test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.UnrecognizedExtension(_OID, secrets.token_bytes(padding)), False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.DER)
