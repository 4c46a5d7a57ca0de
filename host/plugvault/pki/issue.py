"""Issue certificates after a profile, with any key that can sign [ISO 15118-2 Annex F].

Only P-256 with ecdsa-with-SHA256, and never more than the 800 bytes a certificate may have on the
wire. Does not decide who may have a certificate: that is EST's and the operators' work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha1

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from evcc.errors import EvccError
from plugvault.pki.profiles import PROFILES, Profile

LIMIT = 800  # bytes of DER: the schema's certificateType
BACKDATE = 3600  # seconds: clocks in vehicles and stations are not exact

_NAMES = {
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
}
_USAGES = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]


class IssueError(EvccError):
    """A certificate that cannot be issued as asked."""

    REASONS = ("too-long", "curve", "validity", "not-a-ca", "subject")


@dataclass(frozen=True)
class Authority:
    """A certification authority: its certificate, its key, and the path above it.

    `issuers`: certificates above this one, nearest first, root last; empty for a root.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = ()

    @cached_property  # DER costs as much as a signature, and an operator issues many
    def path(self) -> list[bytes]:
        """The sub-CA certificates a leaf of this authority is sent with: DER, Sub2 first."""
        certificates = (self.certificate, *self.issuers)[:-1]
        return [der(certificate) for certificate in certificates]

    @property
    def root(self) -> bytes:
        """The root this authority hangs under: DER."""
        return der((self.certificate, *self.issuers)[-1])


def der(certificate: x509.Certificate) -> bytes:
    """The certificate as DER."""
    return certificate.public_bytes(Encoding.DER)


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """65 bytes, 0x04 | X | Y."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def root(
    kind: str, names: Mapping[str, str], key: ec.EllipticCurvePrivateKey, now: float
) -> Authority:
    """A new self-signed root. `kind`: "v2g", "oem" or "mo"; `names`: C, O, CN."""
    certificate = _build(PROFILES[f"{kind}-root"], names, key.public_key(), key, None, now)
    return Authority(certificate, key)


def subordinate(
    profile: str,
    names: Mapping[str, str],
    key: ec.EllipticCurvePrivateKey,
    above: Authority,
    now: float,
    ocsp: str | None = None,
) -> Authority:
    """A new sub-CA below `above`, after a profile such as "v2g-sub1"."""
    certificate = issue(profile, names, key.public_key(), above, now, ocsp=ocsp)
    return Authority(certificate, key, (above.certificate, *above.issuers))


def issue(
    profile: str,
    names: Mapping[str, str],
    public_key: ec.EllipticCurvePublicKey,
    issuer: Authority,
    now: float,
    *,
    begins: float | None = None,
    ends: float | None = None,
    ocsp: str | None = None,
) -> x509.Certificate:
    """One certificate after `profile`, signed by `issuer`.

    `names`: C, O, CN (the DC is the profile's); `now`, `begins`, `ends`: Unix seconds, `begins`
    an hour before now and `ends` after the profile's lifetime when not given, but never after
    the issuer's own end; `ocsp`: address of the responder, used where the profile carries one.

    Raises IssueError: "too-long" (DER over 800 bytes), "curve" (not P-256), "validity" (empty,
    or `ends` asked for beyond the issuer's), "not-a-ca" (the issuer may not sign this),
    "subject".
    """
    row = PROFILES[profile]
    _may_issue(issuer.certificate, row)
    return _build(row, names, public_key, issuer.key, issuer.certificate, now, begins, ends, ocsp)


def _may_issue(issuer: x509.Certificate, row: Profile) -> None:
    basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if not basic.ca or (row.ca and basic.path_length == 0):
        raise IssueError("not-a-ca", issuer.subject.rfc4514_string())


def _build(
    row: Profile,
    names: Mapping[str, str],
    public_key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    now: float,
    begins: float | None = None,
    ends: float | None = None,
    ocsp: str | None = None,
) -> x509.Certificate:
    if not isinstance(public_key.curve, ec.SECP256R1):
        raise IssueError("curve", public_key.curve.name)
    subject = _subject(names, row.domain)
    not_before, not_after = _validity(row, issuer, now, begins, ends)
    identifier = key_identifier(public_key)
    above = key_identifier(signer.public_key())
    basic = x509.BasicConstraints(ca=row.ca, path_length=row.path_length)
    usage = x509.KeyUsage(**{name: name in row.usage for name in _USAGES})
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number() >> 32)  # 16 octets, positive
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(basic, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(above, None, None), critical=False)
    )
    if row.ocsp and ocsp:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    certificate = builder.sign(signer, SHA256())
    size = len(der(certificate))
    if size > LIMIT:
        raise IssueError("too-long", f"{size} bytes, at most {LIMIT}: shorten the subject")
    return certificate


def key_identifier(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """8 bytes [RFC 5280, 4.2.1.2, method 2]: the length ISO 15118-20 counts on."""
    digest = bytearray(sha1(point(public_key), usedforsecurity=False).digest()[-8:])
    digest[0] = 0x40 | digest[0] & 0x0F
    return bytes(digest)


def _subject(names: Mapping[str, str], domain: str) -> x509.Name:
    full = {**names, "DC": domain}
    try:
        return x509.Name(
            [x509.NameAttribute(oid, full[name]) for name, oid in _NAMES.items() if name in full]
        )
    except ValueError as error:
        raise IssueError("subject", str(error)) from error


def _validity(
    row: Profile,
    issuer: x509.Certificate | None,
    now: float,
    begins: float | None,
    ends: float | None,
) -> tuple[datetime, datetime]:
    start = now - BACKDATE if begins is None else begins
    end = start + row.lifetime if ends is None else ends
    if issuer:
        limit = issuer.not_valid_after_utc.timestamp()
        if ends is not None and end > limit:
            raise IssueError("validity", "would outlive its issuer")
        end = min(end, limit)
    if end <= start:
        raise IssueError("validity", "ends before it begins")
    return datetime.fromtimestamp(int(start), UTC), datetime.fromtimestamp(int(end), UTC)
