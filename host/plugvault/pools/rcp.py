"""RCP, the root certificate pool: the trust anchors of the ecosystem [OPCP 1.0.0, rcp.v1].

Every role may read; only administrators add. Roots are never trusted because a message carries
them: all pools ask here.
"""

import uuid

from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.pki.path import read
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Records, Root

KINDS = ("V2G", "MO", "OEM", "PE")


def put(records: Records, certificate: bytes, kind: str, now: float) -> Root:
    """Add a root, or find it again. `kind`: of KINDS. Only self-signed CA certificates."""
    if kind not in KINDS:
        raise PoolError("invalid", f"rootType : must be one of {', '.join(KINDS)}")
    try:
        path.check_root(certificate, now)
    except CertificateError as error:
        raise PoolError("invalid", f"caCertificate : not a root certificate ({error})") from error
    fingerprint = path.fingerprint(certificate)
    known = records.roots.by_fingerprint(fingerprint)
    root = Root(known.root_id if known else str(uuid.uuid4()), kind, certificate, fingerprint)
    records.roots.put(root)
    return root


def get(records: Records, root_id: str) -> Root:
    """Raises PoolError("not-found")."""
    root = records.roots.get(root_id)
    if root is None:
        raise PoolError("not-found", "Root certificate with the given ID is not found.")
    return root


def anchors(records: Records, *kinds: str) -> list[bytes]:
    """DER of every root of these kinds."""
    return [root.certificate for root in records.roots.all() if root.kind in kinds]


def by_fingerprint(records: Records, fingerprint: str) -> Root:
    """The V2G root a caller names: SHA-256 in hexadecimal, or its UUID."""
    root = records.roots.by_fingerprint(fingerprint.lower()) or records.roots.get(
        fingerprint.lower()
    )
    if root is None or root.kind != "V2G":
        raise PoolError("invalid", "The given V2G root certificate is not available in RCP.")
    return root


def key_identifier(root: Root) -> str:
    """The root's own key identifier, lower-case hexadecimal."""
    identifier = read(root.certificate).ski
    return identifier.hex() if identifier else ""
