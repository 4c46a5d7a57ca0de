"""Enrolment and renewal of certificates from the ecosystem's CAs [OPCP 1.0.0, est.v1; RFC 7030].

A request proves possession of its key (`plugvault.pki.request`). Its common name must be an
identifier of the kind the CA is for, and the caller must own it. The issued certificate is
recorded in the same transaction. Renewal with the current certificate needs no access token: the
new certificate has the same subject and another key.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.pki.issue import Authority, der, issue
from plugvault.pki.profiles import PROFILES
from plugvault.pki.request import SigningRequest
from plugvault.pki.schemes import EDITION2
from plugvault.pools import authorization, certificates
from plugvault.pools.caller import Caller, read_emaid, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.repositories import Records

UNANNOUNCED = "The station must be announced first: PUT /v1/vra/cpo/endEntities."
NOT_CURRENT = "The certificate that asks for renewal"

EVSEID = re.compile(r"([A-Za-z]{2})\*?([A-Za-z0-9]{3})\*?E[A-Za-z0-9*]{1,30}")
SECCID = re.compile(r"([A-Za-z]{2})-?([A-Za-z0-9]{3})-?S-?[A-Za-z0-9]{1,50}(?:-[A-Za-z0-9])?")
_LONG_PCID = re.compile(r"[A-Za-z0-9]{17,64}")


def station_operator(text: str) -> str:
    """The operator ("DEPVC") in an EVSEID or a SECCID. Raises PoolError("invalid")."""
    return _operator(text, EVSEID, SECCID)


def _operator(text: str, *forms: re.Pattern[str]) -> str:
    for form in forms:
        match = form.fullmatch(text)
        if match:
            return (match[1] + match[2]).upper()
    name = "SECCID" if forms == (SECCID,) else "EVSEID"
    raise PoolError("invalid", f'{name} : must match "^{forms[0].pattern}$"')


def _station(name: str, edition: str) -> dict[str, str]:
    # OPCP's table has EVSEIDs for ISO 15118-2; its text and live stations have SECCIDs too.
    forms = (EVSEID, SECCID) if edition == EDITION2 else (SECCID,)
    return {"operator": _operator(name, *forms)}


def _vehicle(name: str, edition: str) -> dict[str, str]:
    is_long = edition != EDITION2 and _LONG_PCID.fullmatch(name)
    return {"pcid": name if is_long else read_pcid(name)}


def _contract(name: str, _edition: str) -> dict[str, str]:
    if read_emaid(name) != name:
        raise PoolError("invalid", "emaid : must be written in upper case and without hyphens")
    return {"emaid": name}


def _any_name(_name: str, _edition: str) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Kind:
    """The certificates a CA of EST issues.

    `profile`: of `plugvault.pki.profiles`; `identifier(common name, edition)`: the identifier in
    the common name, as an argument of `authorization.check`.
    """

    profile: str
    identifier: Callable[[str, str], dict[str, str]]


KINDS = {
    "oem": Kind("provisioning", _vehicle),
    "veh": Kind("vehicle", _vehicle),
    "cpo": Kind("cpo", _station),
    "mo": Kind("contract", _contract),
    "cps": Kind("cps", _any_name),
}


def enroll(
    records: Records,
    caller: Caller,
    kind: str,
    authority: Authority,
    request: SigningRequest,
    now: float,
    *,
    ocsp: str | None = None,
    registered: bool = False,
) -> bytes:
    """A certificate (DER) for a request.

    `kind`: of KINDS; `ocsp`: the URL of the OCSP responder for the certificate; `registered`: True
    when a station must have been announced. Raises PoolError: "invalid" for a malformed common
    name, "forbidden" for an identifier of another company or a station that was not announced,
    "unavailable" for a revoked CA; `plugvault.pki.issue.IssueError`.
    """
    identifier = KINDS[kind].identifier(request.common_name, authority.scheme.edition)
    authorization.check(caller, f"est.{kind}", **identifier)
    if kind == "cpo" and registered and records.entities.get(request.common_name) is None:
        raise PoolError("forbidden", UNANNOUNCED)
    return _issue(records, kind, authority, request, now, ocsp)


def renew(
    records: Records,
    current: bytes,
    kind: str,
    authority: Authority,
    request: SigningRequest,
    now: float,
    *,
    ocsp: str | None = None,
) -> bytes:
    """The next certificate (DER) for the holder of `current`: the same subject from the same CA.

    `current`: DER; TLS has proved the possession of its key. Raises PoolError: "forbidden" when
    `current` is not from this CA, not valid or revoked, and for another subject in the request;
    "unavailable" for a revoked CA; `plugvault.pki.issue.IssueError`.
    """
    try:
        certificate = path.read_any(current)
    except CertificateError as error:
        raise PoolError("forbidden", f"{NOT_CURRENT} cannot be read ({error}).") from error
    issuer = path.read_any(der(authority.certificate))
    if (
        certificate.issuer != issuer.subject
        or not path.verify(issuer.point, certificate.tbs_digest, certificate.signature)
        or certificate.names.get("DC") != PROFILES[KINDS[kind].profile].domain
        or not certificates.is_ours(records, *path.identity(certificate))
    ):
        raise PoolError("forbidden", f"{NOT_CURRENT} was not issued by this CA.")
    if not certificate.not_before <= now <= certificate.not_after:
        raise PoolError("forbidden", f"{NOT_CURRENT} is not valid now.")
    if records.statuses.revoked([path.identity(certificate)]):
        raise PoolError("forbidden", f"{NOT_CURRENT} has been revoked.")
    requested = {"CN": request.common_name, "O": request.organisation, "C": request.country}
    if any(certificate.names.get(part) != value for part, value in requested.items()):
        raise PoolError("forbidden", "The request's subject is not that of the certificate.")
    return _issue(records, kind, authority, request, now, ocsp)


def _issue(
    records: Records,
    kind: str,
    authority: Authority,
    request: SigningRequest,
    now: float,
    ocsp: str | None,
) -> bytes:
    try:
        certificates.check(records, authority.path)
    except PoolError as error:
        raise PoolError("unavailable", "The CA has been revoked.") from error
    names = {"O": request.organisation, "CN": request.common_name}
    if request.country:
        names["C"] = request.country
    certificate = issue(KINDS[kind].profile, names, request.public_key, authority, now, ocsp=ocsp)
    certificates.record(records, certificate)
    return certificate
