"""RCP, the root certificate pool: the trust anchors of the ecosystem [OPCP 1.0.0, rcp.v1].

Every role may read. Only administrators change RCP, and each change is in the audit trail. All
pools take their trust anchors from here and never from a message. The records below a deleted root
stay; reading them fails until an administrator decides.

The kinds of roots: "V2G" for everything that an ecosystem issues; "OEM" for provisioning
certificates; "MO" for contract certificates; "PE" for the charging stations of one private
environment (a home, a fleet's yard). Vehicles may read PE roots; no path here ends in one. Roots
of ISO 15118-20 (P-521, Ed448) can be stored and read. Vehicles and contracts here are of
ISO 15118-2 and end in its roots.
"""

import uuid

from evcc.x509 import CertificateError
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pki.path import read_any as read
from plugvault.pki.schemes import SCHEMES
from plugvault.pools import audit, events
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Root
from plugvault.pools.repositories import Records

KINDS = ("V2G", "MO", "OEM", "PE")
MISSING = "Root certificate with the given ID is not found."
SETUP = "set-up"  # the actor of the first roots in the audit trail


def put(
    records: Records,
    certificate: bytes,
    kind: str,
    now: float,
    *,
    who: str = SETUP,
    origin: str = "",
) -> Root:
    """Add a root, unless it is in RCP already, and return it. Every client gets an event.

    `certificate`: of a CA, signed by its own key; `kind`: of KINDS; `who`: the actor for the audit
    trail; `origin`: the partner it comes from. Raises PoolError("invalid").
    """
    check(records, certificate, kind, now)
    fingerprint = path.fingerprint(certificate)
    records.lock(fingerprint)
    stored = records.roots.by_fingerprint(fingerprint)
    if stored:
        return stored
    curve = path.curve(read(certificate))
    namespace = SCHEMES[curve].namespace
    root = Root(str(uuid.uuid4()), kind, certificate, fingerprint, namespace, origin)
    records.roots.put(root)
    audit.note(records, who, "root added", root.root_id, f"{kind} {fingerprint}", now)
    _tell(records, "root.cert.added", root, now)
    return root


def check(records: Records, certificate: bytes, kind: str, now: float) -> None:
    """Raise PoolError for a root that `put` would refuse."""
    if kind not in KINDS:
        raise PoolError("invalid", f"rootType : must be one of {', '.join(KINDS)}")
    try:
        path.check_root(certificate, now)
    except CertificateError as error:
        raise PoolError("invalid", f"caCertificate : not a root certificate ({error})") from error
    stored = records.roots.by_fingerprint(path.fingerprint(certificate))
    if stored and stored.kind != kind:
        raise PoolError("invalid", f"rootType : this root is in RCP as {stored.kind} already")


def delete(records: Records, root_id: str, now: float, *, who: str) -> None:
    """Delete a root, with an event for every client. Raises PoolError("not-found")."""
    records.lock(get(records, root_id).fingerprint)
    root = get(records, root_id)
    remove(records, root, now, who=who)


def remove(records: Records, root: Root, now: float, *, who: str) -> None:
    """Delete a stored root, with an event for every client. Nothing else is deleted with it."""
    expired = read(root.certificate).not_after < now
    records.roots.delete(root.root_id)
    action = "root expired" if expired else "root deleted"
    audit.note(records, who, action, root.root_id, f"{root.kind} {root.fingerprint}", now)
    _tell(records, "root.cert.expired" if expired else "root.cert.revoked", root, now)


def get(records: Records, root_id: str) -> Root:
    """A root by its UUID in lower case. Raises PoolError("not-found")."""
    root = records.roots.get(root_id)
    if root is None:
        raise PoolError("not-found", MISSING)
    return root


def anchors(records: Records, *kinds: str) -> list[bytes]:
    """DER of the roots of these kinds in which a path of ISO 15118-2 can end."""
    return [
        root.certificate
        for root in records.roots.all()
        if root.kind in kinds and root.namespace == ISO2
    ]


def by_fingerprint(records: Records, fingerprint: str) -> Root:
    """The V2G root with this SHA-256 (hexadecimal) or UUID. Raises PoolError("invalid")."""
    root = records.roots.by_fingerprint(fingerprint.lower()) or records.roots.get(
        fingerprint.lower()
    )
    if root is None or root.kind != "V2G":
        raise PoolError("invalid", "The given V2G root certificate is not available in RCP.")
    return root


def key_identifier(root: Root) -> str:
    """The subject key identifier of a root, lower-case hexadecimal; "" without one."""
    identifier = read(root.certificate).ski
    return identifier.hex() if identifier else ""


def _tell(records: Records, kind: str, root: Root, now: float) -> None:
    payload = events.root_payload(root)
    events.publish(records, kind, events.EVERYONE, payload, now, namespace=root.namespace)
