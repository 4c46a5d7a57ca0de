"""Who may revoke which certificate of ours, and what falls with it [OPNC 1.0, pki].

A certificate is shown, not named: it must carry the signature of one of our CAs, so that nobody
revokes a stranger's by writing its number. The owner of its subject may revoke it; a CA's is an
administrator's, and takes everything below it along.
"""

from collections.abc import Callable, Sequence

from evcc.x509 import Certificate, CertificateError
from plugvault.pki import path
from plugvault.pki.issue import Authority, der
from plugvault.pools import certificates, enrolment
from plugvault.pools.caller import ADMIN, Caller, read_emaid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Status
from plugvault.pools.repositories import Records

NOT_OURS = "The certificate was not issued here."

# DC of the subject: whose a common name is.
_OWNERS: dict[str, Callable[[Caller, str], None]] = {
    "OEM": lambda caller, name: caller.owns_vehicle(name),
    "MO": lambda caller, name: caller.owns_contract(read_emaid(name)),
    "CPO": lambda caller, name: caller.owns_station(enrolment.station_operator(name)),
}


def revoke(
    records: Records,
    caller: Caller,
    authorities: Sequence[Authority],
    certificate: bytes,
    reason: str,
    now: float,
) -> Status:
    """`certificate`: DER; `authorities`: our CAs; `reason`: of `certificates.REASONS`.
    Raises PoolError."""
    try:
        shown = path.read_any(certificate)
    except CertificateError as error:
        raise PoolError("invalid", f"certificate : {error}") from error
    if shown.issuer == shown.subject:
        raise PoolError("invalid", "certificate : a root is taken out of RCP, not revoked")
    if not any(_issued(authority, shown) for authority in authorities):
        raise PoolError("not-found", NOT_OURS)
    if ADMIN not in caller.roles:
        _check_owner(caller, shown)
    identity = path.identity(shown)
    if not certificates.is_ours(records, *identity):  # from before there was a register
        certificates.record(records, certificate)
    status = certificates.revoke(records, *identity, reason, now)
    if shown.is_ca and shown.ski:
        _revoke_below(records, authorities, shown.ski, reason, now)
    return status


def _check_owner(caller: Caller, shown: Certificate) -> None:
    owns = _OWNERS.get(shown.names.get("DC", ""))
    if shown.is_ca or owns is None:
        raise PoolError("forbidden", "Only an administrator revokes this certificate.")
    owns(caller, shown.names.get("CN", ""))


def _issued(authority: Authority, shown: Certificate) -> bool:
    above = path.read_any(der(authority.certificate))
    return shown.issuer == above.subject and path.verify(
        above.point, shown.tbs_digest, shown.signature
    )


def _revoke_below(
    records: Records, authorities: Sequence[Authority], ski: bytes, reason: str, now: float
) -> None:
    certificates.revoke_below(records, ski.hex(), reason, now)
    for authority in authorities:
        below = path.read_any(der(authority.certificate))
        if below.aki == ski and below.ski and below.ski != ski:
            _revoke_below(records, authorities, below.ski, reason, now)
