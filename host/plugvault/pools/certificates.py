"""What our own CAs have issued, and what of it, or of anyone's, is revoked.

[RFC 5280, 5.3.1] for the reasons. A status row exists for every certificate that a CA of ours has
issued, and for foreign ones that are known to be revoked. What is revoked stays so: there is no
`certificateHold` here. A revoked path is refused whoever revoked it.
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
ANOTHERS = "The certificate names the issuer and the serial number of another's."


def record(records: Records, der: bytes) -> Status:
    """Enter a certificate that one of our own CAs has just issued. DER."""
    certificate = path.read_any(der)
    status = Status(
        *path.identity(certificate), distinguished_name(certificate.names), certificate.not_after
    )
    records.statuses.put(status)
    return status


def is_ours(records: Records, issuer: str, serial: str) -> bool:
    """Whether one of our own CAs issued it."""
    return records.statuses.get(issuer, serial) is not None


def revoke(records: Records, issuer: str, serial: str, reason: str, now: float) -> Status:
    """Revoke a certificate of ours. Once revoked, the first moment and reason stay.

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
    """Everything good that was issued with a CA's key. `key_identifier`: hexadecimal."""
    records.statuses.revoke_issued_by(key_identifier, reason, int(now))


def check(records: Records, certificates: Iterable[bytes]) -> None:
    """Raises PoolError("invalid") when any of these (DER, a leaf and what is above it) is
    revoked. One query."""
    if records.statuses.revoked([path.identity(path.read_any(der)) for der in certificates]):
        raise PoolError("invalid", REVOKED)


def check_new(records: Records, leaf: Certificate, above: Iterable[bytes]) -> None:
    """As `check`; and for a leaf that would be taken for one of our own: its CA wrote the key
    identifier of one of ours into it, and the serial number of what that has issued. Whoever
    ended it would revoke the other. One query."""
    identity = path.identity(leaf)
    known = records.statuses.known(
        [identity, *(path.identity(path.read_any(der)) for der in above)]
    )
    if any(one.revoked is not None for one in known):
        raise PoolError("invalid", REVOKED)
    for one in known:
        if (one.issuer, one.serial) == identity and one.subject != distinguished_name(leaf.names):
            raise PoolError("invalid", ANOTHERS)
