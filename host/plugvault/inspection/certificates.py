"""Certificates: the content of each, and the checks of a path.

The checks are independent, so that a broken path shows all its errors. With trust anchors, the
vehicle's own validation (`evcc.chain`) decides about the path.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from cryptography import x509 as reference
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import chain, ids, x509
from evcc.check_digit import emaid_check_digit
from evcc.errors import EvccError
from evcc.vault.schemes import SCHEMES
from evcc.x509 import Certificate
from plugvault.inspection.report import Report, Scope, listed
from plugvault.pki.layout import role_of
from plugvault.pki.names import distinguished_name, serial_hex, timestamp
from plugvault.pki.verify import verify_p256

LIMIT = SCHEMES["iso2"].certificate_limit
_READ_LIMIT = 65_535
_ANCHORED = "path to a trust anchor"

_USAGES = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
ROLES = {
    chain.CPS: "CPS leaf",
    chain.CPO: "CPO (SECC) leaf",
    chain.CONTRACT: "contract certificate",
    chain.PROVISIONING: "OEM provisioning certificate",
}


def title(cert: Certificate) -> str:
    """The CN of a certificate, or a text for one without a CN."""
    return cert.names.get("CN") or "certificate without CN"


def describe(der: bytes) -> dict[str, Any]:
    """The content of a certificate (DER) as JSON, also of one that ISO 15118-2 cannot use."""
    try:
        cert = x509.parse(der, _READ_LIMIT)
    except x509.CertificateError as error:
        return _describe_foreign(der, error)
    role = role_of(cert)
    kind = ROLES[role] if role else "leaf"
    if cert.is_ca:
        kind = "root" if cert.issuer == cert.subject else "sub-CA"
    content = {
        "type": kind,
        "subject": _name_text(cert.subject),
        "issuer": _name_text(cert.issuer),
        "serial": serial_hex(cert.serial),
        "notBefore": timestamp(cert.not_before),
        "notAfter": timestamp(cert.not_after),
        "key": "P-256",
        "pathLength": cert.path_length,
        "keyUsage": _usages(cert.key_usage),
        "subjectKeyIdentifier": cert.ski.hex() if cert.ski is not None else None,
        "authorityKeyIdentifier": cert.aki.hex() if cert.aki is not None else None,
        "ocsp": cert.ocsp,
        "sha256": x509.fingerprint(der).hex(),
        "bytes": len(der),
    }
    return {key: value for key, value in content.items() if value is not None}


def _describe_foreign(der: bytes, error: EvccError) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "certificate", "unusable": str(error), "bytes": len(der)}
    try:
        cert = reference.load_der_x509_certificate(der)
        key = cert.public_key()
        content |= {
            "subject": cert.subject.rfc4514_string(),
            "issuer": cert.issuer.rfc4514_string(),
            "serial": serial_hex(cert.serial_number),
            "notBefore": timestamp(cert.not_valid_before_utc.timestamp()),
            "notAfter": timestamp(cert.not_valid_after_utc.timestamp()),
            "key": key.curve.name
            if isinstance(key, ec.EllipticCurvePublicKey)
            else type(key).__name__,
            "sha256": x509.fingerprint(der).hex(),
        }
    except Exception:  # noqa: BLE001 - any error means: no more content
        return content
    return content


def _name_text(name: bytes) -> str:
    try:
        return distinguished_name(x509.names(name))
    except EvccError as error:
        return f"unreadable ({error})"


def _usages(bits: int | None) -> list[str] | None:
    if bits is None:
        return None
    return [name for i, name in enumerate(_USAGES) if bits >> i & 1]


def read_all(report: Report, ders: Sequence[bytes]) -> list[Certificate] | None:
    """The parsed certificates; None when one cannot be read, with the failed check in the
    report."""
    certs, bad = [], []
    for at, der in enumerate(ders):
        try:
            certs.append(x509.parse(der, _READ_LIMIT))
        except x509.CertificateError as error:
            bad.append(f"number {at + 1}: {error}")
    report.add("certificates readable", not bad, listed(bad) or f"{len(certs)} of {len(ders)}")
    return None if bad else certs


def check_paths(certs: Sequence[Certificate], scope: Scope) -> Report:
    """Checks of certificates in any order: they are sorted into paths, leaf first."""
    report = Report("paths")
    unsorted = list(certs)
    while unsorted:
        issuers = {c.issuer for c in unsorted if c.issuer != c.subject}
        start = next((c for c in unsorted if c.subject not in issuers), unsorted[0])
        path = _follow(start, unsorted)
        unsorted = [c for c in unsorted if c not in path]
        part = check_path(path, role_of(path[0]), scope)  # sorted here: a file has no order
        report.include(part, title(path[0]) if len(certs) != len(path) else "")
    return report


def _follow(start: Certificate, certs: Sequence[Certificate]) -> list[Certificate]:
    path = [start]
    while path[-1].issuer != path[-1].subject:
        above = [c for c in certs if c.subject == path[-1].issuer and c not in path]
        if not above:
            break
        path.append(above[0])
    return path


def check_path(
    certs: Sequence[Certificate],
    role: str | None,
    scope: Scope,
    *,
    vouched: bool = False,
    alone: str = "",
) -> Report:
    """Every check of one path.

    certs: leaf first, the others in any order. role: the required role of the leaf; None: a path
    without a known leaf. vouched: the CPS signature vouches for the chain, so that an unknown root
    is no failure. alone: the reason why the leaf comes without its sub-CAs.
    """
    report = Report("path")
    path = _follow(certs[0], certs)
    if len(path) != len(certs):
        strays = [title(c) for c in certs if c not in path]
        report.add("every certificate is on the path", False, "not on it: " + listed(strays))
    if role is not None and len(certs) > 2:
        _check_order(report, certs)
    sizes = listed(str(len(c.der)) for c in path)
    large = listed(f"{title(c)} has {len(c.der)}" for c in path if len(c.der) > LIMIT)
    report.add(f"sizes of at most {LIMIT} bytes", not large, large or sizes)
    _check_dates(report, path, scope.at)
    critical = [title(c) for c in path if c.unknown_critical]
    report.add("no unknown critical extension", not critical, listed(critical))
    if role is not None:
        _check_role(report, path[0], role)
    if alone:
        report.add(_ANCHORED, None, alone)
        return report
    _check_cas(report, path, 0 if role is None and path[0].is_ca else 1)
    for below, above in pairwise(path):
        _check_link(report, below, above)
    _check_top(report, path, role, scope, vouched)
    return report


def _check_order(report: Report, certs: Sequence[Certificate]) -> None:
    """Each sub-CA stands behind the certificate that it issued, as the schema lists them."""
    misplaced = [
        f"{title(above)} behind {title(below)}"
        for below, above in pairwise(certs)
        if above.subject != below.issuer
    ]
    report.add("order of the certificates", not misplaced, listed(misplaced))


def _check_dates(report: Report, path: Sequence[Certificate], at: int) -> None:
    early = [f"{title(c)} from {timestamp(c.not_before)}" for c in path if at < c.not_before]
    late = [f"{title(c)} until {timestamp(c.not_after)}" for c in path if at > c.not_after]
    until = min(path, key=lambda c: c.not_after)
    report.add(
        f"valid at {timestamp(at)}",
        not early and not late,
        listed(early + late) or f"until {timestamp(until.not_after)}",
    )


def _check_role(report: Report, leaf: Certificate, role: str) -> None:
    """The vehicle's own role check, and the EMAID's digit with it."""
    try:
        chain.check_role(leaf, role)
        report.add(f"role {role}", True, _name_text(leaf.subject))
    except x509.CertificateError as error:
        report.add(f"role {role}", False, error.detail)
    if role == chain.CONTRACT:
        check_digit(report, leaf.names.get("CN", ""))


def check_digit(report: Report, emaid: str) -> None:
    """Add the check of the EMAID's check digit, where it has one."""
    name = "EMAID check digit"
    try:
        parsed = ids.parse_emaid(emaid)
    except ids.IdError as error:
        report.add(name, False, f"{emaid!r} is no EMAID: {error}")
        return
    digit = emaid_check_digit(parsed)
    if len(parsed) == 14:
        report.add(name, None, f"{parsed} has none; it would be {digit}")
    else:
        # A wrong digit is a remark: the car and the pools take it, as published samples have it.
        is_right = parsed[14] == digit
        by_annex = f"{parsed}: {digit} by Annex H"
        detail = by_annex if is_right else f"{by_annex}; car and pools take {parsed[14]} too"
        report.add(name, True if is_right else None, detail)


def _check_cas(report: Report, path: Sequence[Certificate], first: int) -> None:
    cas = path[first:]
    bad = [
        f"{title(c)} is no CA"
        for c in cas
        if not c.is_ca or (c.key_usage is not None and not c.key_usage & x509.KEY_CERT_SIGN)
    ]
    if first and path[0].is_ca:
        bad.append(f"{title(path[0])} is a CA where a leaf belongs")
    report.add("CA marks", not bad, listed(bad) or listed([title(c) for c in cas]))
    long = [
        f"{title(c)} allows {c.path_length}, has {below}"
        for below, c in enumerate(cas)
        if c.path_length is not None and below > c.path_length
    ]
    seen = [f"{title(c)}: {'any' if c.path_length is None else c.path_length}" for c in cas]
    report.add("path lengths", not long, listed(long or seen))


def _check_link(report: Report, below: Certificate, above: Certificate) -> None:
    good = verify_p256(above.point, below.tbs_digest, below.signature)
    name = f"signature of {title(below)}"
    if good:
        report.add(name, True, f"by {title(above)}")
    else:
        keyed = below.aki is not None and above.ski is not None and below.aki != above.ski
        why = "key identifiers differ: another key of that name" if keyed else "does not verify"
        report.add(name, False, f"by {title(above)}: {why}")


def _check_top(
    report: Report, path: Sequence[Certificate], role: str | None, scope: Scope, vouched: bool
) -> None:
    top = path[-1]
    if top.issuer == top.subject:
        own = verify_p256(top.point, top.tbs_digest, top.signature)
        report.add(f"signature of {title(top)}", own, "by its own key" if own else "not its own")
    if not scope.anchors:
        report.add(_ANCHORED, None, "no trust anchor given")
    elif role is not None:
        _check_as_vehicle(report, path, role, scope, vouched)
    elif any(top.der == anchor.der for anchor in scope.anchors):
        report.add(_ANCHORED, True, f"{title(top)} is one")
    else:
        issuers = [a for a in scope.anchors if a.subject == top.issuer]
        signed = [a for a in issuers if verify_p256(a.point, top.tbs_digest, top.signature)]
        good = bool(signed) and top.issuer != top.subject
        why = f"to {title(signed[0])}" if good else f"none given issued {title(top)}"
        report.add(_ANCHORED, good, why)


def _check_as_vehicle(
    report: Report, path: Sequence[Certificate], role: str, scope: Scope, vouched: bool
) -> None:
    try:
        anchor = chain.validate(
            path[0], path[1:], scope.anchors, role, scope.at, verify_p256, transitive=vouched
        )
    except x509.CertificateError as error:
        report.add(_ANCHORED, False, str(error))
        return
    if anchor is None:
        report.add(_ANCHORED, None, "its root was not given; the CPS signature vouches for it")
    else:
        report.add(_ANCHORED, True, f"to {title(anchor)}")


def inspect_certificates(ders: Sequence[bytes], scope: Scope) -> Report:
    """One certificate, a chain or several chains."""
    kind = "certificate" if len(ders) == 1 else "certificate chain"
    report = Report(kind, {"certificates": [describe(der) for der in ders]})
    report.certificates = list(ders)
    certs = read_all(report, ders)
    if certs:
        report.include(check_paths(certs, scope), "")
    return report
