"""The certificates around a vehicle under test, their keys in memory, all from one seed.

    pki = CasePki(Seed(1), now)                       # roots, sub-CAs, CPS, CPO and MO leaves
    pki.anchors                                       # [("V2G", der), ("MO", der), ("OEM", der)]
    pki.cps_sub2.issue("CPS Leaf", dc="CPO")          # any other certificate, in one call

Profiles: ISO 15118-2:2014, Annex F. The same seed and time give the same bytes: serial numbers
come from the seed, and signatures are deterministic (RFC 6979). A given PKI [`Given`] stands in
place of the seed's; keys in a token sign it with other bytes at every call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from plugvault.cases.seed import Seed

DAY = 86_400
_YEAR = 365 * DAY
Extension = tuple[x509.ExtensionType, bool]
Key = ec.EllipticCurvePrivateKey
Given = Mapping[str, tuple[x509.Certificate, Key | None]]
"""Certificates of a PKI that is there, with their private keys as far as these are there.

The names are those of an ecosystem's folder: "v2g-root", "mo-root", "oem-root"; "prov-sub1" and
"prov-sub2" of the CPS, likewise "cpo-sub1", "mo-sub1", "oem-sub1" and the lower ones; "cps-leaf",
"cpo-leaf". A missing certificate is made where the CA above it has its key. A branch with one
sub-CA has it as "…-sub1".
"""


class PkiError(ValueError):
    """A given PKI for which no cases can be made. The text says what is missing."""


class UnsuitedError(PkiError):
    """One case that cannot be made with the given PKI. The text has the reason."""


class NoKeyError(UnsuitedError):
    """A certificate that the case needs cannot be issued, because the CA's private key is
    missing."""


def point(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """The public key as 65 bytes, 0x04 | X | Y."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def sign(key: Key, data: bytes) -> bytes:
    """ECDSA with SHA-256 over `data` [RFC 6979]: r | s, 64 bytes."""
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(data, algorithm))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def usage(*names: str) -> x509.KeyUsage:
    """A KeyUsage extension with these bits set, by their names in `cryptography`."""
    return x509.KeyUsage(**{bit: bit in names for bit in _USAGES})


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
CA_USAGE = usage("key_cert_sign", "crl_sign")
LEAF_USAGE = usage("digital_signature", "key_agreement")
CONTRACT_USAGE = usage(
    "digital_signature", "content_commitment", "key_encipherment", "key_agreement"
)


class Issued:
    """A certificate and its private key; `key` is None where the key is not on P-256 or is
    missing."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: Key | None,
        issuer: Issued | None,
        pki: Pki,
    ) -> None:
        self.certificate, self.key, self.issuer = certificate, key, issuer
        self.der = certificate.public_bytes(Encoding.DER)
        self._pki = pki

    @property
    def private_key(self) -> Key:
        """The private key. Raises NoKeyError where it is missing."""
        if self.key is None:
            raise NoKeyError(f"the private key of {self.common_name!r} is not here")
        return self.key

    @property
    def common_name(self) -> str:
        """The CN; the whole subject for a given certificate without a CN."""
        subject = self.certificate.subject
        names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else subject.rfc4514_string()

    @property
    def point(self) -> bytes:
        """The public key of a certificate on P-256: 65 bytes, 0x04 | X | Y."""
        return point(self.certificate.public_key())  # type: ignore[arg-type]

    @property
    def chain(self) -> list[bytes]:
        """DER of the leaf and its sub-CAs without the root: [leaf, sub 2, sub 1]."""
        return [self.der, *self.issuer.chain] if self.issuer else []

    def issue(
        self,
        common_name: str,
        *,
        subject: x509.Name | None = None,
        dc: str | None = None,
        ca: bool | None = False,
        path_length: int | None = None,
        key: Key | None = None,
        public_key: ec.EllipticCurvePublicKey | bytes | None = None,
        not_before: int | None = None,
        not_after: int | None = None,
        key_usage: x509.KeyUsage | None = None,
        organisation: str | None = None,
        country: str | None = "DE",
        serial: int | None = None,
        extensions: Sequence[Extension] = (),
    ) -> Issued:
        """A certificate below this one. Raises NoKeyError.

        subject: the whole subject, in place of one with the common name. ca: None leaves
        BasicConstraints out. key: in place of one from the seed; public_key: in place of a key
        whose private half is missing, a key or the 65 bytes of one on P-256. not_before,
        not_after: Unix seconds. extensions: [(extension, critical)].
        """
        pki = self._pki
        if isinstance(public_key, bytes):
            public_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        if key is None and public_key is None:
            key = pki.next_key()
        certificate = _certificate(
            subject=subject
            or subject_name(common_name, dc, organisation or pki.organisation, country),
            public_key=key.public_key() if key else public_key,  # type: ignore[arg-type]
            issuer=self.certificate.subject,
            issuer_key=self.private_key,
            issuer_id=_identifier(self.certificate),
            serial=pki.next_serial() if serial is None else serial,
            validity=pki.dates(not_before, not_after),
            extensions=_extensions(ca, path_length, key_usage, extensions),
        )
        return Issued(certificate, key, self, pki)

    def sub(
        self, common_name: str, path_length: int | None = 0, dc: str = "V2G", **changes: Any
    ) -> Issued:
        """A sub-CA below this one. changes: see `issue`."""
        return self.issue(common_name, dc=dc, ca=True, path_length=path_length, **changes)


class Pki:
    """A seed and a time. It makes roots, and names the keys of all certificates that are issued
    below them."""

    organisation = "Plugvault test cases"
    past, future = 120 * DAY, _YEAR  # the validity of a certificate, before `now` and after it

    def __init__(self, seed: Seed, now: int) -> None:
        self.seed, self.now = seed, now
        self._prefix, self._number = "pki", 0

    def begin(self, prefix: str) -> None:
        """Set the prefix for the names of the following keys and serial numbers. So each case has
        its own, independently of other cases."""
        self._prefix, self._number = prefix, 0

    def next_key(self) -> Key:
        """The next key pair from the seed."""
        self._number += 1
        return self.seed.key(f"{self._prefix} key {self._number}")

    def next_serial(self) -> int:
        """The next serial number from the seed: positive, 8 bytes."""
        self._number += 1
        number = self.seed.bytes(f"{self._prefix} serial {self._number}", 8)
        return int.from_bytes(number, "big") >> 1 | 1 << 62

    def dates(self, not_before: int | None, not_after: int | None) -> tuple[int, int]:
        """Begin and end of a validity, Unix seconds; None for the usual value."""
        return (
            self.now - self.past if not_before is None else not_before,
            self.now + self.future if not_after is None else not_after,
        )

    def root(
        self,
        common_name: str,
        dc: str = "V2G",
        *,
        subject: x509.Name | None = None,
        key: Key | None = None,
        ca: bool = True,
        organisation: str | None = None,
        not_before: int | None = None,
        not_after: int | None = None,
        serial: int | None = None,
    ) -> Issued:
        """A self-signed root. Arguments: see `Issued.issue`."""
        key = key or self.next_key()
        subject = subject or subject_name(common_name, dc, organisation or self.organisation, "DE")
        certificate = _certificate(
            subject=subject,
            public_key=key.public_key(),
            issuer=subject,
            issuer_key=key,
            issuer_id=_key_id(key.public_key()),
            serial=self.next_serial() if serial is None else serial,
            validity=(
                self.now - _YEAR if not_before is None else not_before,
                self.now + 40 * _YEAR if not_after is None else not_after,
            ),
            extensions=_extensions(ca, None, CA_USAGE, ()),
        )
        return Issued(certificate, key, None, self)


class CasePki(Pki):
    """Three roots and the certificates below them, valid at `now` (Unix seconds).

    given: certificates to use in place of the seed's. Raises PkiError where they are incomplete.
    """

    def __init__(self, seed: Seed, now: int, given: Given | None = None) -> None:
        super().__init__(seed, now)
        self._given = given or {}
        self.v2g_root = self._of_given("v2g-root", None) or self.root("V2G Root")
        self.cps_sub1, self.cps_sub2 = self._branch(self.v2g_root, "prov", "Prov")
        self.cps = self._leaf("cps-leaf", self.cps_sub2, "CPS Leaf", dc="CPS")
        self.cpo_sub1, self.cpo_sub2 = self._branch(self.v2g_root, "cpo", "CPO")
        self.cpo = self._leaf(
            "cpo-leaf", self.cpo_sub2, "DE*PVT*E0001", dc="CPO", key_usage=LEAF_USAGE
        )
        self.mo_root = self._of_given("mo-root", None) or self.root("MO Root", dc="MO")
        self.mo_sub1, self.mo_sub2 = self._branch(self.mo_root, "mo", "MO", "MO")
        self.oem_root = self._of_given("oem-root", None) or self.root("OEM Root", dc="OEM")
        self.oem_sub1, self.oem_sub2 = self._branch(self.oem_root, "oem", "OEM", "OEM")
        for signer, name in ((self.cps, "the CPS"), (self.mo_sub2, "the mobility operator")):
            if signer.key is None:
                raise PkiError(
                    f"{name} cannot sign: no CA on its path has a private key here. Give the key, "
                    "or leave that root out: then cases have one of their own"
                )

    def _of_given(self, name: str, issuer: Issued | None) -> Issued | None:
        """The given certificate of this name below its issuer; a root where that is None."""
        if name not in self._given:
            return None
        certificate, key = self._given[name]
        public = certificate.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
            raise PkiError(f"the key of {name} is not on P-256, as ISO 15118-2 wants it")
        if key is not None and key.public_key() != public:
            raise PkiError(f"the private key of {name} is not that of its certificate")
        above = certificate if issuer is None else issuer.certificate
        try:
            certificate.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature) as error:
            above_name = "itself" if issuer is None else issuer.common_name
            raise PkiError(f"{name} is not issued by {above_name}") from error
        ends = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        if not ends[0] <= datetime.fromtimestamp(self.now, UTC) <= ends[1]:
            raise PkiError(f"{name} is valid from {ends[0]} to {ends[1]}: choose a time between")
        return Issued(certificate, key, issuer, self)

    def _branch(self, root: Issued, prefix: str, name: str, dc: str = "V2G") -> tuple[Issued, ...]:
        """The upper and the lower sub-CA below a root."""
        upper = self._of_given(f"{prefix}-sub1", root)
        lower = self._of_given(f"{prefix}-sub2", upper or root)
        if upper is not None and lower is None and not _may_have_cas(upper.certificate):
            upper, lower = None, upper
        upper = upper or _made(lambda: root.sub(f"{name} Sub1", path_length=1, dc=dc), root)
        lower = lower or _made(lambda: upper.sub(f"{name} Sub2", dc=dc), upper)
        return upper, lower

    def _leaf(self, given: str, issuer: Issued, name: str, **profile: Any) -> Issued:
        """A leaf of the seed's, or where its issuer has no key, the given one."""
        try:
            return issuer.issue(name, **profile)
        except NoKeyError:
            return self._of_given(given, issuer) or issuer

    @property
    def anchors(self) -> list[tuple[str, bytes]]:
        """[(kind, DER)] of the roots that the vehicle trusts."""
        roots = (("V2G", self.v2g_root), ("MO", self.mo_root), ("OEM", self.oem_root))
        return [(kind, issued.der) for kind, issued in roots]


def _may_have_cas(certificate: x509.Certificate) -> bool:
    """Whether a CA may have CAs below it."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return constraints.path_length is None or constraints.path_length > 0


def _made(make: Callable[[], Issued], otherwise: Issued) -> Issued:
    """A sub-CA; where its issuer has no key, a CA without a key in its place."""
    try:
        return make()
    except NoKeyError:
        return otherwise


def subject_name(
    common_name: str, dc: str | None, organisation: str, country: str | None
) -> x509.Name:
    """A subject of C, O, CN, DC in this order; None leaves a part out."""
    parts = [
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organisation),
        (NameOID.COMMON_NAME, common_name),
        (NameOID.DOMAIN_COMPONENT, dc),
    ]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _extensions(
    ca: bool | None,
    path_length: int | None,
    key_usage: x509.KeyUsage | None,
    more: Sequence[Extension],
) -> list[Extension]:
    found: list[Extension] = [(key_usage or (CA_USAGE if ca else LEAF_USAGE), True)]
    if ca is not None:
        found.append((x509.BasicConstraints(ca, path_length), True))
    return [*found, *more]


def _certificate(
    *,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: Key,
    issuer_id: bytes,
    serial: int,
    validity: tuple[int, int],
    extensions: Sequence[Extension],
) -> x509.Certificate:
    begins, ends = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=t) for t in validity)
    builder = (
        x509.CertificateBuilder(issuer, subject, public_key)
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier(_key_id(public_key)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(issuer_id, None, None), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)


def _identifier(issuer: x509.Certificate) -> bytes:
    """The key identifier in the issuer's own certificate, which path building compares [RFC 5280,
    4.2.1.1]."""
    try:
        kind = x509.SubjectKeyIdentifier
        return issuer.extensions.get_extension_for_class(kind).value.digest
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        return _key_id(key) if isinstance(key, ec.EllipticCurvePublicKey) else b""


def _key_id(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """A key identifier of 8 bytes, the length in the operators' certificates in the field."""
    encoded = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha1(encoded, usedforsecurity=False).digest()[-8:]
