"""Revocation of a certificate that a CA of this ecosystem issued [OPNC 1.0, pki].

The caller sends the certificate itself. It must carry the signature of one of our CAs: with a
serial number alone, a forged certificate could revoke another owner's. The owner of the subject
may revoke a leaf. Only an administrator may revoke a CA, and every certificate below it with it.
"""

from collections.abc import Callable, Sequence

from evcc.x509 import Certificate, CertificateError
from plugvault.pki import path
from plugvault.pki.issue import Authority, der
from plugvault.pools import authorization, certificates, enrolment
from plugvault.pools.caller import ADMIN, Caller, read_emaid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Status
from plugvault.pools.repositories import Records

NOT_OURS = "The certificate was not issued here."

# DC of the subject: the identifier in its common name, as an argument of `authorization.check`.
_IDENTIFIERS: dict[str, Callable[[str], dict[str, str]]] = {
    "OEM": lambda name: {"pcid": name},
    "MO": lambda name: {"emaid": read_emaid(name)},
    "CPO": lambda name: {"operator": enrolment.station_operator(name)},
}


def revoke(
    records: Records,
    caller: Caller,
    authorities: Sequence[Authority],
    certificate: bytes,
    reason: str,
    now: float,
) -> Status:
    """Revoke a certificate and, for a CA, every certificate below it.

    `certificate`: DER; `authorities`: the CAs of this ecosystem; `reason`: of
    `certificates.REASONS`. A second revocation changes nothing. Raises PoolError: "invalid" for a
    certificate that cannot be read, a root or an unknown reason; "not-found" for another issuer's;
    "forbidden" for another owner's.
    """
    try:
        revoked = path.read_any(certificate)
    except CertificateError as error:
        raise PoolError("invalid", f"certificate : {error}") from error
    if revoked.issuer == revoked.subject:
        raise PoolError("invalid", "certificate : a root is deleted from RCP, not revoked")
    if not any(_has_issued(authority, revoked) for authority in authorities):
        raise PoolError("not-found", NOT_OURS)
    _check_owner(caller, revoked)
    identity = path.identity(revoked)
    if not certificates.is_ours(records, *identity):  # issued before statuses were recorded
        certificates.record(records, certificate)
    status = certificates.revoke(records, *identity, reason, now)
    if revoked.is_ca and revoked.ski:
        _revoke_below(records, authorities, revoked.ski, reason, now)
    return status


def _check_owner(caller: Caller, certificate: Certificate) -> None:
    if ADMIN in caller.roles:
        return
    identifier = _IDENTIFIERS.get(certificate.names.get("DC", ""))
    if certificate.is_ca or identifier is None:
        raise PoolError("forbidden", "Only an administrator may revoke this certificate.")
    authorization.check(caller, "revoke", **identifier(certificate.names.get("CN", "")))


def _has_issued(authority: Authority, certificate: Certificate) -> bool:
    issuer = path.read_any(der(authority.certificate))
    return certificate.issuer == issuer.subject and path.verify(
        issuer.point, certificate.tbs_digest, certificate.signature
    )


def _revoke_below(
    records: Records, authorities: Sequence[Authority], ski: bytes, reason: str, now: float
) -> None:
    certificates.revoke_below(records, ski.hex(), reason, now)
    for authority in authorities:
        below = path.read_any(der(authority.certificate))
        if below.aki == ski and below.ski and below.ski != ski:
            _revoke_below(records, authorities, below.ski, reason, now)
