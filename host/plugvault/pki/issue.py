"""Issue certificates after a profile, with any key that can sign [ISO 15118-2 Annex F].

The issuer's key belongs to one scheme (`plugvault.pki.schemes`). The scheme gives the hash, the
edition whose keys the issuer certifies, and the greatest size of a certificate. No certificate
holds the address of a CRL: 800 bytes have room for the OCSP responder's only. EST and the
operators decide which subject may get a certificate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from hashlib import sha1
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from evcc.errors import EvccError
from plugvault.pki.profiles import PROFILES, Profile
from plugvault.pki.schemes import (
    SCHEMES,
    PrivateKey,
    PublicKey,
    Scheme,
    public_bits,
    scheme_of,
)

LIMIT = SCHEMES["secp256r1"].limit  # bytes of DER: the schema's certificateType
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
    """A certificate that cannot be issued as requested."""

    REASONS = ("too-long", "curve", "validity", "not-a-ca", "subject")


@dataclass(frozen=True)
class Authority:
    """A certification authority: its certificate, its private key, and the path above it.

    `issuers`: certificates above this one, nearest first, root last; empty for a root.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = ()

    @cached_property  # encoding to DER costs as much as a signature
    def path(self) -> list[bytes]:
        """The sub-CA certificates that are sent with a leaf of this authority: DER, Sub2 first."""
        certificates = (self.certificate, *self.issuers)[:-1]
        return [der(certificate) for certificate in certificates]

    @cached_property
    def identifier(self) -> bytes:
        """The key identifier of its certificate, which is the authority key identifier of the
        certificates that it issues. An imported CA may have another length than the 8 bytes of
        `key_identifier`."""
        try:
            extension = self.certificate.extensions.get_extension_for_class(
                x509.SubjectKeyIdentifier
            )
        except x509.ExtensionNotFound:
            return key_identifier(self.key.public_key())
        return extension.value.digest

    @cached_property
    def scheme(self) -> Scheme:
        """The algorithms of its key. Raises IssueError("curve") for a key of no scheme."""
        return _scheme(self.key)

    def may_issue(self, row: Profile) -> bool:
        """Whether this certificate is a CA's, and allows a CA below it if `row` is the profile of
        a CA."""
        return self._constraints.ca and not (row.ca and self._constraints.path_length == 0)

    @cached_property
    def _constraints(self) -> x509.BasicConstraints:
        return self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value

    @property
    def root(self) -> bytes:
        """The root above this authority: DER."""
        return der((self.certificate, *self.issuers)[-1])


def der(certificate: x509.Certificate) -> bytes:
    """A certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key of P-256 as an uncompressed point: 65 bytes, 0x04 | X | Y."""
    return public_bits(key)


def root(kind: str, names: Mapping[str, str], key: PrivateKey, now: float) -> Authority:
    """A new self-signed root. `kind`: "v2g", "oem" or "mo"; `names`: C, O, CN; `now`: Unix
    seconds. Raises IssueError as `issue`."""
    profile = PROFILES[f"{kind}-root"]
    certificate, _ = _build(profile, names, key.public_key(), key, None, now, _Options())
    return Authority(certificate, key)


def subordinate(
    profile: str,
    names: Mapping[str, str],
    key: PrivateKey,
    above: Authority,
    now: float,
    ocsp: str | None = None,
) -> Authority:
    """A new sub-CA below `above`, after a profile such as "v2g-sub1". `names`, `now`, `ocsp` and
    the errors: as for `issue`."""
    row = PROFILES[profile]
    options = _Options(ocsp=ocsp)
    certificate, _ = _build(row, names, key.public_key(), above.key, above, now, options)
    return Authority(certificate, key, (above.certificate, *above.issuers))


def issue(
    profile: str,
    names: Mapping[str, str],
    public_key: PublicKey,
    issuer: Authority,
    now: float,
    *,
    begins: float | None = None,
    ends: float | None = None,
    ocsp: str | None = None,
    hosts: Sequence[str] = (),
) -> bytes:
    """One certificate after `profile`, signed by `issuer`: DER.

    `names`: C, O, CN (the DC is the profile's); `now`, `begins`, `ends`: Unix seconds. Without
    `begins` the certificate begins an hour before now, without `ends` it ends after the profile's
    lifetime, but never after its issuer. `ocsp`: URL of the responder, used where the profile
    carries one; `hosts`: DNS names and IP addresses of a server.

    Raises IssueError: "too-long" (DER over the scheme's limit), "curve" (of no scheme, or of
    another edition than the issuer's), "validity" (empty, before 1970, or `ends` after the
    issuer's end), "not-a-ca" (the issuer may not sign this), "subject" (a name that X.509 does not
    allow).
    """
    row = PROFILES[profile]
    options = _Options(begins, ends, ocsp, hosts)
    return _build(row, names, public_key, issuer.key, issuer, now, options)[1]


@dataclass(frozen=True)
class _Options:
    """The keyword arguments of `issue`."""

    begins: float | None = None
    ends: float | None = None
    ocsp: str | None = None
    hosts: Sequence[str] = ()


def _build(
    row: Profile,
    names: Mapping[str, str],
    public_key: PublicKey,
    signer: PrivateKey,
    issuer: Authority | None,
    now: float,
    options: _Options,
) -> tuple[x509.Certificate, bytes]:
    scheme, certified = _scheme(signer), _scheme(public_key)
    if certified.edition != scheme.edition:
        raise IssueError("curve", f"{certified.name} is not for a CA of {scheme.edition}")
    if issuer and not issuer.may_issue(row):
        raise IssueError("not-a-ca", issuer.certificate.subject.rfc4514_string())
    subject = _subject(names, row.domain)
    identifier = key_identifier(public_key)
    above = issuer.identifier if issuer else identifier
    certificate = x509.CertificateBuilder(
        issuer.certificate.subject if issuer else subject,
        subject,
        public_key,
        x509.random_serial_number() >> 32,  # 16 octets, positive
        *_validity(row, issuer, now, options.begins, options.ends),
        [
            *_purpose(row),
            _not_critical(x509.SubjectKeyIdentifier(identifier)),
            _not_critical(x509.AuthorityKeyIdentifier(above, None, None)),
            *([_responder(options.ocsp)] if row.ocsp and options.ocsp else []),
            *([_hosts(options.hosts)] if options.hosts else []),
        ],
    ).sign(signer, scheme.hash)
    encoded = der(certificate)
    if len(encoded) > scheme.limit:
        size = f"{len(encoded)} bytes, at most {scheme.limit}"
        raise IssueError("too-long", f"{size}: shorten the subject")
    return certificate, encoded


@lru_cache
def _purpose(row: Profile) -> tuple[x509.Extension[x509.ExtensionType], ...]:
    """BasicConstraints and KeyUsage of a profile, both critical."""
    basic = x509.BasicConstraints(ca=row.ca, path_length=row.path_length)
    usage = x509.KeyUsage(**{name: name in row.usage for name in _USAGES})
    return x509.Extension(basic.oid, True, basic), x509.Extension(usage.oid, True, usage)


@lru_cache(maxsize=64)
def _responder(url: str) -> x509.Extension[x509.ExtensionType]:
    address = x509.UniformResourceIdentifier(url)
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, address)
    return _not_critical(x509.AuthorityInformationAccess([access]))


def _not_critical(value: x509.ExtensionType) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, False, value)


def _hosts(hosts: Sequence[str]) -> x509.Extension[x509.ExtensionType]:
    return _not_critical(x509.SubjectAlternativeName(map(_general_name, hosts)))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _scheme(key: object) -> Scheme:
    scheme = scheme_of(key)
    if scheme is None:
        raise IssueError("curve", "neither secp256r1, secp521r1 nor ed448")
    return scheme


def key_identifier(public_key: PublicKey) -> bytes:
    """A key identifier of 8 bytes [RFC 5280, 4.2.1.2, method 2], the length that ISO 15118-20
    expects."""
    digest = bytearray(sha1(public_bits(public_key), usedforsecurity=False).digest()[-8:])
    digest[0] = 0x40 | digest[0] & 0x0F
    return bytes(digest)


def _subject(names: Mapping[str, str], domain: str) -> x509.Name:
    values = {**names, "DC": domain}
    if not all(value.isprintable() for value in values.values()):
        raise IssueError("subject", "a character that is not printable")
    try:
        return x509.Name(
            [
                x509.NameAttribute(oid, values[name])
                for name, oid in _NAMES.items()
                if name in values
            ]
        )
    except ValueError as error:
        raise IssueError("subject", str(error)) from error


def _validity(
    row: Profile,
    issuer: Authority | None,
    now: float,
    begins: float | None,
    ends: float | None,
) -> tuple[datetime, datetime]:
    start = now - BACKDATE if begins is None else begins
    if start < 0:  # the library would end the process: DER has no form for this date
        raise IssueError("validity", "begins before 1970")
    end = start + row.lifetime if ends is None else ends
    if issuer:
        limit = issuer.certificate.not_valid_after_utc.timestamp()
        if ends is not None and end > limit:
            raise IssueError("validity", "would outlive its issuer")
        end = min(end, limit)
    if end <= start:
        raise IssueError("validity", "ends before it begins")
    return datetime.fromtimestamp(int(start), UTC), datetime.fromtimestamp(int(end), UTC)
