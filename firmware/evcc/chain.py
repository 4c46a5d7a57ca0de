"""Path validation (RFC 5280 section 6, as far as Plug & Charge needs it): one leaf, one role.

The path is built from the leaf upwards by name and checked for everything but signatures. Then the
signatures are verified, from the trust anchor down. Trust comes from the caller's anchors and
never from the message: a root in a chain is ignored. The caller knows the revoked certificates.
"""

from evcc.ids import IdError, parse_emaid, parse_pcid
from evcc.pause import pause
from evcc.x509 import DIGITAL_SIGNATURE, KEY_AGREEMENT, KEY_CERT_SIGN, CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Sequence

    from evcc.x509 import Certificate

CPS = "CPS"
CPO = "CPO"
CONTRACT = "contract"
PROVISIONING = "provisioning"

MAX_SUBS = 4  # in a message (XSD)
MAX_PATH = 4  # leaf, Sub2, Sub1, root [V2G2-656]

# role: accepted DC values (None: no DC), the parser of the CN, required key usage where the
# certificate has that extension. Real contract and provisioning leaves may lack a DC.
_ROLES = {
    CPS: (("CPS",), str, DIGITAL_SIGNATURE),
    CPO: (("CPO",), str, DIGITAL_SIGNATURE),
    CONTRACT: ((None, "MO"), parse_emaid, DIGITAL_SIGNATURE),
    PROVISIONING: ((None, "OEM"), parse_pcid, DIGITAL_SIGNATURE | KEY_AGREEMENT),
}


def validate(
    leaf: "Certificate",
    subs: "Sequence[Certificate]",
    anchors: "Sequence[Certificate]",
    role: str,
    now: "int | None",
    verify: "Callable[[bytes, bytes, bytes], bool]",
    transitive: bool = False,
    is_revoked: "Callable[[Certificate], bool] | None" = None,
) -> "Certificate | None":
    """The trust anchor that `leaf` chains up to.

    subs: the message's other certificates, in any order, at most four. anchors: from the trust
    store only. role: CPS, CPO, CONTRACT or PROVISIONING. now: seconds since 1970;
    None: the time is not known, and no date is judged.
    verify(point, digest, signature): see p256.verify.
    transitive: accept a chain that ends below no known anchor if its own links verify, and return
    None: for the operator's chain, which the CPS signature covers. Its leaf must have a sub-CA in
    the message; if an anchor has the name of the top's issuer, it must verify the top.
    is_revoked: called for the leaf and for each sub-CA above it.
    Raises: CertificateError with a reason of the group "chain"; the errors of `verify`.
    """
    if len(subs) > MAX_SUBS:
        raise CertificateError("too-long", "%d sub-CA certificates" % len(subs))
    check_role(leaf, role)
    path, issuers = build(leaf, subs, anchors)
    if not issuers and (not transitive or len(path) == 1):
        for cert in subs:
            if cert.subject == cert.issuer == path[-1].issuer:
                raise CertificateError("root-in-message", _title(cert))
        raise CertificateError("untrusted", "no trust anchor issued " + _title(path[-1]))
    if len(path) >= MAX_PATH:
        raise CertificateError("too-long", "%d certificates below the root" % len(path))
    _check_path(path, now, is_revoked)
    anchor = None
    if issuers:
        issuers = _usable(issuers, len(path) - 1, now)
        anchor = verify_link(path[-1], issuers, verify)
    for at in range(len(path) - 2, -1, -1):
        verify_link(path[at], path[at + 1 : at + 2], verify)
    return anchor


def _check_path(path, now, is_revoked):
    """Check everything but roles, anchors and signatures."""
    check_current(path[0], now)
    for below, cert in enumerate(path[1:]):
        _check_ca(cert, below, now)
    for cert in path:
        pause()
        if is_revoked is not None and is_revoked(cert):
            raise CertificateError("revoked", _title(cert))


def is_anchor(
    cert: "Certificate", now: int, verify: "Callable[[bytes, bytes, bytes], bool]"
) -> None:
    """Check that `cert` may become a trust anchor: a CA, in date, signed with its own key.

    now: unix seconds. Raises: CertificateError: "not-a-root" for a certificate that is no CA or is
    signed with another key, else the reason of the failed check; the errors of `verify`.
    """
    if cert.issuer != cert.subject or not cert.is_ca:
        raise CertificateError("not-a-root", _title(cert))
    _check_ca(cert, 0, now)
    if not verify(cert.point, cert.tbs_digest, cert.signature):
        raise CertificateError("not-a-root", _title(cert) + " is not signed with its own key")


def check_role(leaf: "Certificate", role: str) -> None:
    """Check that `leaf` is a leaf of this role: no CA, its DC, its CN, its key usage.

    role: as in `validate`. Raises: CertificateError("leaf-is-ca" | "role" | "key-usage").
    """
    domains, parse_name, usage = _ROLES[role]
    names = leaf.names
    if leaf.is_ca:
        raise CertificateError("leaf-is-ca", _title(leaf))
    if names.get("DC") not in domains:
        raise CertificateError("role", "%s has DC=%s" % (_title(leaf), names.get("DC")))
    try:
        parse_name(names.get("CN", ""))
    except IdError as e:
        raise CertificateError("role", "%s: %s" % (_title(leaf), e))
    if leaf.key_usage is not None and leaf.key_usage & usage != usage:
        raise CertificateError("key-usage", _title(leaf))


def build(
    leaf: "Certificate", subs: "Sequence[Certificate]", anchors: "Sequence[Certificate]"
) -> "tuple[list[Certificate], list[Certificate]]":
    """(path from the leaf to the last sub-CA, the anchors that may have issued that sub-CA).

    Built by names and key identifiers alone; self-issued certificates in `subs` are ignored.
    """
    path = [leaf]
    while True:
        pause()
        top = path[-1]
        issuers = _issuers(top, anchors)
        if issuers:
            return path, issuers
        unused = [c for c in subs if c not in path and c.subject != c.issuer]
        issuers = _issuers(top, unused)
        if not issuers:
            return path, []
        path.append(issuers[0])


def _issuers(cert, candidates):
    """The candidates with the issuer's name; if some have its key identifier, only those."""
    issuer, aki = cert.issuer, cert.aki
    named = [c for c in candidates if c.subject == issuer]
    keyed = [c for c in named if aki is not None and c.ski == aki]
    return keyed or named


def check_current(cert: "Certificate", now: "int | None") -> None:
    """Check the dates, and that no critical extension is unknown to this module.

    now: unix seconds; None: no date is judged.
    Raises: CertificateError("not-yet-valid" | "expired" | "critical-extension").
    """
    if now is not None and now < cert.not_before:
        raise CertificateError("not-yet-valid", _title(cert))
    if now is not None and now > cert.not_after:
        raise CertificateError("expired", _title(cert))
    if cert.unknown_critical:
        raise CertificateError("critical-extension", _title(cert))


def _check_ca(cert, below, now):
    """Check an issuer with `below` CA certificates between it and the leaf."""
    signs = cert.key_usage is not None and cert.key_usage & KEY_CERT_SIGN
    if not cert.is_ca:
        # keyCertSign without the CA flag is a malformed CA certificate; without both it is a leaf.
        raise CertificateError("no-ca-flag" if signs else "leaf-as-ca", _title(cert))
    if cert.key_usage is not None and not signs:
        raise CertificateError("key-usage", _title(cert))
    if cert.path_length is not None and below > cert.path_length:
        raise CertificateError("path-length", _title(cert))
    check_current(cert, now)


def _usable(anchors, below, now):
    """The anchors that pass `_check_ca`, or the error of the last where none does.

    A root and its renewal have one name, so several anchors may be candidates."""
    usable = []
    for cert in anchors:
        try:
            _check_ca(cert, below, now)
            usable.append(cert)
        except CertificateError:
            if cert is anchors[-1] and not usable:
                raise
    return usable


def verify_link(
    cert: "Certificate",
    issuers: "Sequence[Certificate]",
    verify: "Callable[[bytes, bytes, bytes], bool]",
) -> "Certificate":
    """The issuer that signed `cert`. issuers: one candidate at least.

    Raises: CertificateError("wrong-issuer-key" | "signature"); the errors of `verify`.
    """
    digest = cert.tbs_digest
    for issuer in issuers:
        if verify(issuer.point, digest, cert.signature):
            return issuer
    ski = issuers[0].ski
    if ski is not None and cert.aki is not None and ski != cert.aki:
        raise CertificateError("wrong-issuer-key", _title(cert))
    raise CertificateError("signature", _title(cert))


def _title(cert):
    return cert.names.get("CN", "a certificate without CN")
