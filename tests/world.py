"""A small Plug & Charge world in software keys, for tests: a PKI, and answers signed by its CPS.

    world = World()                                  # roots, sub-CAs, CPS, CPO, OEM and MO leaves
    world.anchors                                    # [("V2G", der), ("MO", der), ("OEM", der)]
    bad = world.cps_sub2.issue("CPS", dc="CPO")      # any other certificate, in one call
    world.response(point)                            # a CertificateInstallationRes that installs
    world.response(point, cps=bad)                   # the same, signed by the wrong leaf
    world.response(point, edit=lambda m: ...)        # the same, changed after it was signed

Profiles as ISO 15118-2 Annex F and the published Hubject samples have them. Nothing here is the
product's but the EXI codec: what is made here is made by `cryptography`, so that two
implementations have to agree.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from evcc import exi

NOW = 1_790_000_000  # 2026-09-21, a Monday: the world's clock, so that no test depends on today
DAY = 86_400
EMAID = "DEPVT0000000012"  # the last character is the check digit
PCID = "PVTP0000000000001"

Extension = tuple[x509.ExtensionType, bool]


def point(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """65 bytes, 0x04 | X | Y."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA with SHA-256 over `data`, as 64 bytes r | s."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def name(cn: str, dc: str | None, organisation: str, country: str | None) -> x509.Name:
    parts = [
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organisation),
        (NameOID.COMMON_NAME, cn),
        (NameOID.DOMAIN_COMPONENT, dc),
    ]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{field: field in names for field in _USAGES})


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


class Issued:
    """A certificate, its key (None where the key lives elsewhere) and who issued it."""

    def __init__(
        self,
        cert: x509.Certificate,
        key: ec.EllipticCurvePrivateKey | None,
        issuer: Issued | None,
        now: int,
    ) -> None:
        self.cert, self.key, self.issuer, self.now = cert, key, issuer, now
        self.der = cert.public_bytes(Encoding.DER)

    @property
    def point(self) -> bytes:
        public = self.cert.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return point(public)

    @property
    def chain(self) -> list[bytes]:
        """DER of the leaf and its sub-CAs, leaf first, without the root: [leaf, sub2, sub1]."""
        return [self.der, *self.issuer.chain] if self.issuer else []

    def issue(
        self,
        cn: str,
        *,
        dc: str | None = None,
        ca: bool | None = False,
        path_length: int | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        public_key: ec.EllipticCurvePublicKey | bytes | None = None,
        not_before: int | None = None,
        not_after: int | None = None,
        key_usage: x509.KeyUsage | None = None,
        organisation: str = "Plug Test",
        country: str | None = "DE",
        serial: int | None = None,
        extensions: Sequence[Extension] = (),
    ) -> Issued:
        """A certificate under this one. `ca=None` leaves BasicConstraints out; `public_key` (a
        65-byte point will do) is certified when its private key is not here to be had."""
        if isinstance(public_key, bytes):
            public_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        if public_key is None:
            key = key or ec.generate_private_key(ec.SECP256R1())
            public_key = key.public_key()
        subject = name(cn, dc, organisation, country)
        assert self.key is not None, "this one's key is elsewhere: it cannot issue"
        cert = _certificate(
            subject,
            public_key,
            self.cert.subject,
            self.key,
            ca,
            path_length,
            self.now - DAY if not_before is None else not_before,
            self.now + 90 * DAY if not_after is None else not_after,
            key_usage or (CA_USAGE if ca else usage("digital_signature")),
            serial,
            extensions,
        )
        return Issued(cert, key, self, self.now)

    def sub(self, cn: str, path_length: int | None = 0, dc: str = "V2G", **changes) -> Issued:
        return self.issue(cn, dc=dc, ca=True, path_length=path_length, **changes)


def root(cn: str, now: int = NOW, dc: str = "V2G", **changes) -> Issued:
    key = changes.get("key") or ec.generate_private_key(ec.SECP256R1())
    subject = name(cn, dc, changes.get("organisation", "Plug Test"), "DE")
    cert = _certificate(
        subject,
        key.public_key(),
        subject,
        key,
        changes.get("ca", True),
        None,
        changes.get("not_before", now - 365 * DAY),
        changes.get("not_after", now + 40 * 365 * DAY),
        CA_USAGE,
        changes.get("serial"),
        (),
    )
    return Issued(cert, key, None, now)


def _certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    ca: bool | None,
    path_length: int | None,
    not_before: int,
    not_after: int,
    key_usage: x509.KeyUsage,
    serial: int | None,
    extensions: Sequence[Extension],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder(issuer, subject, public_key)
        .serial_number(serial or x509.random_serial_number() >> 33)
        .not_valid_before(_date(not_before))
        .not_valid_after(_date(not_after))
        .add_extension(key_usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier(_key_id(public_key)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(_key_id(issuer_key.public_key()), None, None),
            critical=False,
        )
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_id(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """8 bytes, as in the published samples (and as the ISO 15118-20 AAD needs)."""
    return hashlib.sha1(
        public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        usedforsecurity=False,
    ).digest()[-8:]


def _date(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


class World:
    """Three roots and everybody under them. Every attribute is an `Issued`."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now
        self.v2g_root = root("V2G Root", now)
        self.cps_sub1 = self.v2g_root.sub("Prov Sub1", path_length=1)
        self.cps_sub2 = self.cps_sub1.sub("Prov Sub2")
        self.cps = self.cps_sub2.issue("CPS Leaf", dc="CPS")
        self.cpo_sub1 = self.v2g_root.sub("CPO Sub1", path_length=1)
        self.cpo_sub2 = self.cpo_sub1.sub("CPO Sub2")
        self.cpo = self.cpo_sub2.issue("DE*PVT*E0001", dc="CPO", key_usage=AGREEMENT)
        self.mo_root = root("MO Root", now, dc="MO")
        self.mo_sub1 = self.mo_root.sub("MO Sub1", path_length=1, dc="MO")
        self.mo_sub2 = self.mo_sub1.sub("MO Sub2", dc="MO")
        self.contract = self.new_contract(EMAID)
        self.oem_root = root("OEM Root", now, dc="OEM")
        self.oem_sub1 = self.oem_root.sub("OEM Sub1", path_length=1, dc="OEM")
        self.oem_sub2 = self.oem_sub1.sub("OEM Sub2", dc="OEM")

    @property
    def anchors(self) -> list[tuple[str, bytes]]:
        """What a vehicle of this world trusts, in the form `Trust.install` takes."""
        roots = (("V2G", self.v2g_root), ("MO", self.mo_root), ("OEM", self.oem_root))
        return [(kind, issued.der) for kind, issued in roots]

    @property
    def contract_key(self) -> ec.EllipticCurvePrivateKey:
        assert self.contract.key is not None
        return self.contract.key

    def new_contract(self, emaid: str, **changes) -> Issued:
        return self.mo_sub2.issue(
            emaid, **{"dc": "MO", "country": None, "key_usage": _CONTRACT, **changes}
        )

    def provisioning(self, public: bytes, pcid: str = PCID, **changes) -> Issued:
        """The provisioning certificate of a vehicle whose key stays in its token."""
        return self.oem_sub2.issue(
            pcid, **{"dc": "OEM", "public_key": public, "key_usage": AGREEMENT, **changes}
        )

    def response(
        self,
        provisioning_point: bytes,
        *,
        edit_body: Edit | None = None,
        edit_signed_info: Edit | None = None,
        edit: Edit | None = None,
        **changes,
    ) -> bytes:
        """A CertificateInstallationRes, signed by the CPS, that the vehicle whose provisioning key
        is `provisioning_point` can install. EXI.

        changes: see `body`, and `cps` (Issued: chain and signing key), `session_id` (8 bytes),
        `references` (element names to sign, in that order).
        edit_body: changes the CertificateInstallationRes before it is signed.
        edit_signed_info: changes SignedInfo before SignatureValue is made.
        edit: changes the whole message after it was signed.
        """
        cps: Issued = changes.pop("cps", self.cps)
        session_id: bytes = changes.pop("session_id", SESSION_ID)
        references: Sequence[str] = changes.pop("references", SIGNED)
        body = self.body(provisioning_point, **{"cps_chain": cps.chain, **changes})
        if edit_body:
            edit_body(body)
        info = signed_info([(body[name]["Id"], name, body[name]) for name in references])
        if edit_signed_info:
            edit_signed_info(info)
        assert cps.key is not None
        value = sign(cps.key, exi.fragment("SignedInfo", info, "xmldsig"))
        signature = {"SignedInfo": info, "SignatureValue": {"value": value}}
        message = {
            "V2G_Message": {
                "Header": {"SessionID": session_id, "Signature": signature},
                "Body": {"CertificateInstallationRes": body},
            }
        }
        if edit:
            edit(message)
        return exi.encode(message)

    def body(
        self,
        provisioning_point: bytes,
        *,
        contract: Issued | None = None,
        emaid: str | None = None,
        code: str = "OK",
        cps_chain: list[bytes] | None = None,
        contract_chain: list[bytes] | None = None,
        scalar: bytes | None = None,
        ephemeral: ec.EllipticCurvePrivateKey | None = None,
        dh: bytes | None = None,
        encrypted: bytes | None = None,
        ids: Sequence[str] = ("id1", "id2", "id3", "id4"),
    ) -> dict[str, Any]:
        """The unsigned CertificateInstallationRes. Chains are [leaf, sub2, sub1] in DER; `scalar`
        is what gets encrypted (the contract's key), `dh` what DHpublickey says (its own)."""
        contract = contract or self.contract
        emaid = emaid or contract.cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        ephemeral = ephemeral or ec.generate_private_key(ec.SECP256R1())
        if scalar is None:
            assert contract.key is not None
            scalar = contract.key.private_numbers().private_value.to_bytes(32, "big")
        if encrypted is None:
            encrypted = seal(scalar, ephemeral, provisioning_point)
        return {
            "ResponseCode": code,
            "SAProvisioningCertificateChain": chain(cps_chain or self.cps.chain),
            "ContractSignatureCertChain": chain(contract_chain or contract.chain, ids[0]),
            "ContractSignatureEncryptedPrivateKey": {"Id": ids[1], "value": encrypted},
            "DHpublickey": {"Id": ids[2], "value": dh or point(ephemeral)},
            "eMAID": {"Id": ids[3], "value": emaid},
        }


Edit = Callable[[dict[str, Any]], object]

SESSION_ID = bytes(range(1, 9))
SIGNED = (
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)

CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"


def chain(ders: list[bytes], ident: str | None = None) -> dict[str, Any]:
    """CertificateChainType of [leaf, sub2, sub1]."""
    element: dict[str, Any] = {"Id": ident} if ident else {}
    element["Certificate"] = ders[0]
    if ders[1:]:
        element["SubCertificates"] = {"Certificate": list(ders[1:])}
    return element


def signed_info(parts: Sequence[tuple[str, str, Any]]) -> dict[str, Any]:
    """SignedInfo over [(id, element name, value)] in that order."""
    return {
        "CanonicalizationMethod": {"Algorithm": CANONICAL_EXI},
        "SignatureMethod": {"Algorithm": "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"},
        "Reference": [
            {
                "URI": "#" + ident,
                "Transforms": {"Transform": [{"Algorithm": CANONICAL_EXI}]},
                "DigestMethod": {"Algorithm": "http://www.w3.org/2001/04/xmlenc#sha256"},
                "DigestValue": hashlib.sha256(exi.fragment(name, value)).digest(),
            }
            for ident, name, value in parts
        ],
    }


def seal(scalar: bytes, ephemeral: ec.EllipticCurvePrivateKey, recipient: bytes) -> bytes:
    """ContractSignatureEncryptedPrivateKey: IV and AES-128-CBC of the scalar [V2G2-818..822]."""
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), recipient)
    secret = ephemeral.exchange(ec.ECDH(), public)
    key = ConcatKDFHash(hashes.SHA256(), 16, b"\x01\x55\x56").derive(secret)
    iv = os.urandom(16)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(scalar) + encryptor.finalize()


AGREEMENT = usage("digital_signature", "key_agreement")
_CONTRACT = usage("digital_signature", "content_commitment", "key_encipherment", "key_agreement")
