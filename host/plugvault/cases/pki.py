"""The certificates around a vehicle under test, their keys in memory, all from one seed.

    pki = CasePki(Seed(1), now)                       # roots, sub-CAs, CPS, CPO and MO leaves
    pki.anchors                                       # [("V2G", der), ("MO", der), ("OEM", der)]
    pki.cps_sub2.issue("CPS Leaf", dc="CPO")          # any other certificate, in one call

Profiles: ISO 15118-2:2014, Annex F. The same seed and time give the same bytes: serial numbers
come from the seed, and signatures are deterministic (RFC 6979).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
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


def point(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """The public key as 65 bytes, 0x04 | X | Y."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def sign(key: Key, data: bytes) -> bytes:
    """ECDSA with SHA-256 over `data` (RFC 6979), as 64 bytes r | s."""
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
    """A certificate and its key; `key` is None where the key is not on P-256 or not here."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: Key | None,
        issuer: Issued | None,
        pki: CasePki,
    ) -> None:
        self.certificate, self.key, self.issuer = certificate, key, issuer
        self.der = certificate.public_bytes(Encoding.DER)
        self._pki = pki

    @property
    def private_key(self) -> Key:
        """The key. Raises ValueError where it is not here."""
        if self.key is None:
            raise ValueError(f"{self.common_name} has no private key here")
        return self.key

    @property
    def common_name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def point(self) -> bytes:
        """65 bytes, of a certificate on P-256."""
        return point(self.private_key)

    @property
    def chain(self) -> list[bytes]:
        """DER of the leaf and its sub-CAs without the root: [leaf, sub 2, sub 1]."""
        return [self.der, *self.issuer.chain] if self.issuer else []

    def issue(
        self,
        common_name: str,
        *,
        dc: str | None = None,
        ca: bool | None = False,
        path_length: int | None = None,
        key: Key | None = None,
        public_key: ec.EllipticCurvePublicKey | None = None,
        not_before: int | None = None,
        not_after: int | None = None,
        key_usage: x509.KeyUsage | None = None,
        organisation: str = "Plugvault test cases",
        country: str | None = "DE",
        extensions: Sequence[Extension] = (),
    ) -> Issued:
        """A certificate under this one.

        ca: None leaves BasicConstraints out. key: in place of one from the seed; public_key: the
        same where the private key is not here. not_before, not_after: Unix seconds. extensions:
        [(extension, critical)].
        """
        pki = self._pki
        if key is None and public_key is None:
            key = pki.next_key()
        certificate = _certificate(
            subject=_name(common_name, dc, organisation, country),
            public_key=key.public_key() if key else public_key,  # type: ignore[arg-type]
            issuer=self.certificate.subject,
            issuer_key=self.private_key,
            serial=pki.next_serial(),
            validity=(
                pki.now - 120 * DAY if not_before is None else not_before,
                pki.now + _YEAR if not_after is None else not_after,
            ),
            extensions=_extensions(ca, path_length, key_usage, extensions),
        )
        return Issued(certificate, key, self, pki)

    def sub(
        self,
        common_name: str,
        path_length: int | None = 0,
        *,
        dc: str = "V2G",
        not_after: int | None = None,
        key_usage: x509.KeyUsage | None = None,
    ) -> Issued:
        """A sub-CA under this one."""
        return self.issue(
            common_name,
            dc=dc,
            ca=True,
            path_length=path_length,
            not_after=not_after,
            key_usage=key_usage,
        )


class CasePki:
    """Three roots and everything below them, valid at `now` (Unix seconds)."""

    def __init__(self, seed: Seed, now: int) -> None:
        self.seed, self.now = seed, now
        self._prefix, self._number = "pki", 0
        self.v2g_root = self.root("V2G Root")
        self.cps_sub1 = self.v2g_root.sub("Prov Sub1", path_length=1)
        self.cps_sub2 = self.cps_sub1.sub("Prov Sub2")
        self.cps = self.cps_sub2.issue("CPS Leaf", dc="CPS")
        self.cpo_sub2 = self.v2g_root.sub("CPO Sub1", path_length=1).sub("CPO Sub2")
        self.cpo = self.cpo_sub2.issue("DE*PVT*E0001", dc="CPO", key_usage=LEAF_USAGE)
        self.mo_root = self.root("MO Root", dc="MO")
        self.mo_sub1 = self.mo_root.sub("MO Sub1", path_length=1, dc="MO")
        self.mo_sub2 = self.mo_sub1.sub("MO Sub2", dc="MO")
        self.oem_root = self.root("OEM Root", dc="OEM")
        self.oem_sub2 = self.oem_root.sub("OEM Sub1", path_length=1, dc="OEM").sub(
            "OEM Sub2", dc="OEM"
        )

    @property
    def anchors(self) -> list[tuple[str, bytes]]:
        """[(kind, DER)] of the roots that the vehicle trusts."""
        roots = (("V2G", self.v2g_root), ("MO", self.mo_root), ("OEM", self.oem_root))
        return [(kind, issued.der) for kind, issued in roots]

    def begin(self, prefix: str) -> None:
        """Name the keys and serial numbers from here on: each case has its own, whatever other
        cases are made beside it."""
        self._prefix, self._number = prefix, 0

    def next_key(self) -> Key:
        self._number += 1
        return self.seed.key(f"{self._prefix} key {self._number}")

    def next_serial(self) -> int:
        """Positive, 8 bytes."""
        self._number += 1
        number = self.seed.bytes(f"{self._prefix} serial {self._number}", 8)
        return int.from_bytes(number, "big") >> 1 | 1 << 62

    def root(self, common_name: str, dc: str = "V2G", not_after: int | None = None) -> Issued:
        """A self-signed root."""
        key = self.next_key()
        subject = _name(common_name, dc, "Plugvault test cases", "DE")
        certificate = _certificate(
            subject=subject,
            public_key=key.public_key(),
            issuer=subject,
            issuer_key=key,
            serial=self.next_serial(),
            validity=(self.now - _YEAR, self.now + 40 * _YEAR if not_after is None else not_after),
            extensions=_extensions(True, None, None, ()),
        )
        return Issued(certificate, key, None, self)


def _name(common_name: str, dc: str | None, organisation: str, country: str | None) -> x509.Name:
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
        .add_extension(
            x509.AuthorityKeyIdentifier(_key_id(issuer_key.public_key()), None, None),
            critical=False,
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)


def _key_id(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """8 bytes, as the operators' certificates in the field have it."""
    encoded = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha1(encoded, usedforsecurity=False).digest()[-8:]
