"""The status of certificates: issued by our own CAs, or revoked by any CA.

A status row exists for every certificate that our CAs have issued, and for every foreign
certificate that is known to be revoked. Revocation is final: there is no `certificateHold`.
Reasons: [RFC 5280, 5.3.1].
"""

from collections.abc import Iterable
from dataclasses import replace

from evcc.x509 import Certificate
from plugvault.pki import path
from plugvault.pki.names import distinguished_name
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Status
from plugvault.pools.repositories import Records

REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)
REVOKED = "A certificate of the chain has been revoked."
FORGED_IDENTITY = "The certificate has the issuer and the serial number of another certificate."


def record(records: Records, der: bytes) -> Status:
    """Record a certificate (DER) that one of our own CAs has just issued."""
    certificate = path.read_any(der)
    status = Status(
        *path.identity(certificate), distinguished_name(certificate.names), certificate.not_after
    )
    records.statuses.put(status)
    return status


def is_ours(records: Records, issuer: str, serial: str) -> bool:
    """Whether the certificate has a status here: one of our own CAs issued it, or it is a foreign
    one that is known to be revoked. `issuer`, `serial`: see `records`."""
    return records.statuses.get(issuer, serial) is not None


def revoke(records: Records, issuer: str, serial: str, reason: str, now: float) -> Status:
    """Revoke a certificate of ours. A second revocation changes nothing.

    Raises PoolError: "not-found" when it is not ours, "invalid" for a reason not in REASONS.
    """
    if reason not in REASONS:
        raise PoolError("invalid", f"revocationReason : must be one of {', '.join(REASONS)}")
    status = records.statuses.get(issuer, serial)
    if status is None:
        raise PoolError("not-found", "The certificate was not issued here.")
    if status.revoked is None:
        status = replace(status, revoked=int(now), reason=reason)
        records.statuses.put(status)
    return status


def revoke_below(records: Records, key_identifier: str, reason: str, now: float) -> None:
    """Revoke every certificate that a CA's key issued. `key_identifier`: hexadecimal."""
    records.statuses.revoke_issued_by(key_identifier, reason, int(now))


def check(records: Records, certificates: Iterable[bytes]) -> None:
    """Raise PoolError("invalid") when one of these certificates (DER) is revoked. One query."""
    if records.statuses.revoked([path.identity(path.read_any(der)) for der in certificates]):
        raise PoolError("invalid", REVOKED)


def check_new(records: Records, leaf: Certificate, above: Iterable[bytes]) -> None:
    """As `check`, and raise PoolError("invalid") for a leaf with the identity of a certificate of
    ours.

    A foreign CA can write the key identifier of our CA and one of its serial numbers into a leaf.
    A revocation of that leaf would revoke our certificate. One query.
    """
    identity = path.identity(leaf)
    statuses = records.statuses.known(
        [identity, *(path.identity(path.read_any(der)) for der in above)]
    )
    if any(status.revoked is not None for status in statuses):
        raise PoolError("invalid", REVOKED)
    subject = distinguished_name(leaf.names)
    for status in statuses:
        if (status.issuer, status.serial) == identity and status.subject != subject:
            raise PoolError("invalid", FORGED_IDENTITY)
