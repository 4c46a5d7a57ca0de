"""The pieces of one case's messages: contract, ephemeral key, session, and the message of them.

A message is a CertificateInstallationRes of ISO 15118-2, signed by the CPS of the test PKI, that
the vehicle can open, with any one part replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from evcc import exi
from plugvault.cases.derivations import OTHER_INFO
from plugvault.cases.pki import CONTRACT_USAGE, CasePki, Issued, Key, point, sign

Message = dict[str, Any]
Edit = Callable[[Message], object]

SIGNED = (
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)
CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
EMAID = "DEPVT0000000012"  # with its check digit
OTHER_EMAID = "DEPVT0000000Z27"
_SPACING = 600  # seconds between the contracts of two cases
TWIN, MESSAGE, AFTER = 0, 100, 500  # seconds from the first contract of a case


class Scene:
    """The contract, ephemeral key and session of one case, and what all cases share.

    vehicle: the 65-byte point of the provisioning key. slot: the number of the case. age: TWIN,
    MESSAGE or AFTER. Contracts of a higher slot, and within a slot of a later age, are newer, so
    that a module takes each as a renewal, without a reset in between.
    """

    def __init__(
        self, pki: CasePki, vehicle: bytes, case: str, slot: int, age: int = MESSAGE
    ) -> None:
        self.pki, self.vehicle, self.case = pki, vehicle, case
        self.unchanged: bytes | None = None
        self._plain: list[Issued] = []  # contracts without a change
        self.slot, self._contracts = slot, age
        pki.begin(case)
        self.session = pki.seed.bytes(f"{case} session", 8)

    # -- pieces --

    def key(self, name: str) -> Key:
        """A key pair of this case. name: the same name gives the same key."""
        return self.pki.seed.key(f"{self.case} {name}")

    def octets(self, name: str, length: int) -> bytes:
        """`length` pseudo-random bytes of this case, the same for the same name."""
        return self.pki.seed.bytes(f"{self.case} {name}", length)

    def contract(self, emaid: str = EMAID, **changes: Any) -> Issued:
        """A contract of the operator, newer than all before it. changes: see `Issued.issue`."""
        return self.contract_under(self.pki.mo_sub2, emaid, **changes)

    def contract_under(self, issuer: Issued, emaid: str = EMAID, **changes: Any) -> Issued:
        """A contract below another CA. Otherwise as `contract`."""
        self._contracts += 1
        begins = self.pki.now - 90 * 86_400 + _SPACING * self.slot + self._contracts
        standard = {"dc": "MO", "country": None, "key_usage": CONTRACT_USAGE, "not_before": begins}
        issued = issuer.issue(emaid, **{**standard, **changes})
        if issuer is self.pki.mo_sub2 and emaid == EMAID and not changes.keys() - {"key"}:
            self._plain.append(issued)
        return issued

    def cps(self, **changes: Any) -> Issued:
        """Another CPS leaf under the same sub-CA."""
        return self.pki.cps_sub2.issue("CPS Leaf", **{"dc": "CPS", **changes})

    def seal(
        self,
        scalar: bytes,
        ephemeral: Key | None = None,
        *,
        recipient: bytes | None = None,
        iv: bytes | None = None,
        derive: Callable[[bytes], bytes] | None = None,
    ) -> bytes:
        """IV and AES-128-CBC of `scalar` [V2G2-814..822].

        derive: Z (32 bytes) -> key (16 bytes), for another key derivation than the standard's.
        """
        iv = self.octets("iv", 16) if iv is None else iv
        ephemeral = ephemeral or self.key("ephemeral")
        return seal(scalar, ephemeral, recipient or self.vehicle, iv, derive or derived)

    # -- messages --

    def response(self, *, contract: Issued | None = None, **changes: Any) -> bytes:
        """A CertificateInstallationRes, EXI. Without arguments: a good one.

        changes: see `message`. `unchanged` is afterwards the message of the same pieces without
        changes.
        """
        contract = contract or self.contract()
        good = contract if contract in self._plain else self.contract(key=contract.key)
        self.unchanged = self.message(good)
        return self.message(contract, **changes)

    def message(
        self,
        contract: Issued,
        *,
        cps: Issued | None = None,
        session: bytes | None = None,
        references: Sequence[str] = SIGNED,
        edit_body: Edit | None = None,
        edit_signed_info: Edit | None = None,
        edit: Edit | None = None,
        sign_as: Callable[[Key, Message], bytes] | None = None,
        raw: Callable[[bytes], bytes] | None = None,
        **body: Any,
    ) -> bytes:
        """A CertificateInstallationRes for this contract, EXI.

        references: the signed elements, in this order. edit_body: changes the body before it is
        signed; edit_signed_info: SignedInfo before its signature is made; edit: the whole message
        after that. sign_as: (CPS key, SignedInfo) -> SignatureValue. raw: changes the bytes.
        body: see `body`.
        """
        signer = cps or self.pki.cps
        message = self._signed(
            self.body(contract, **{"cps_chain": signer.chain, **body}),
            signer,
            references,
            (edit_body, edit_signed_info),
            sign_as,
        )
        if session is not None:
            message["V2G_Message"]["Header"]["SessionID"] = session
        if edit is not None:
            edit(message)
        encoded = exi.encode(message)
        return raw(encoded) if raw else encoded

    def body(
        self,
        contract: Issued,
        *,
        emaid: str | None = None,
        code: str = "OK",
        cps_chain: list[bytes] | None = None,
        contract_chain: list[bytes] | None = None,
        scalar: bytes | None = None,
        ephemeral: Key | None = None,
        dh: bytes | None = None,
        encrypted: bytes | None = None,
        ids: Sequence[str] = ("id1", "id2", "id3", "id4"),
    ) -> Message:
        """The unsigned body.

        scalar: sealed in place of the contract's private key. dh: the DHpublickey in place of the
        ephemeral key's. encrypted: the ciphertext in place of the sealed key's.
        """
        ephemeral = ephemeral or self.key("ephemeral")
        if encrypted is None:
            encrypted = self.seal(scalar_of(contract) if scalar is None else scalar, ephemeral)
        return {
            "ResponseCode": code,
            "SAProvisioningCertificateChain": chain(cps_chain or self.pki.cps.chain),
            "ContractSignatureCertChain": chain(contract_chain or contract.chain, ids[0]),
            "ContractSignatureEncryptedPrivateKey": {"Id": ids[1], "value": encrypted},
            "DHpublickey": {"Id": ids[2], "value": point(ephemeral) if dh is None else dh},
            "eMAID": {"Id": ids[3], "value": emaid or contract.common_name},
        }

    def _signed(
        self,
        body: Message,
        signer: Issued,
        references: Sequence[str],
        edits: tuple[Edit | None, Edit | None],
        sign_as: Callable[[Key, Message], bytes] | None,
    ) -> Message:
        edit_body, edit_signed_info = edits
        if edit_body is not None:
            edit_body(body)
        info = signed_info([(body[name].get("Id", ""), name, body[name]) for name in references])
        if edit_signed_info is not None:
            edit_signed_info(info)
        value = (sign_as or sign_signed_info)(signer.private_key, info)
        signature = {"SignedInfo": info, "SignatureValue": {"value": value}}
        return {
            "V2G_Message": {
                "Header": {"SessionID": self.session, "Signature": signature},
                "Body": {"CertificateInstallationRes": body},
            }
        }


def seal(
    scalar: bytes,
    ephemeral: Key,
    recipient: bytes,
    iv: bytes,
    derive: Callable[[bytes], bytes],
) -> bytes:
    """IV and AES-128-CBC of `scalar` under the key that `derive` makes of Z [V2G2-814..822].

    scalar: 32 bytes; recipient: the point of the provisioning key, 65 bytes; iv: 16 bytes.
    """
    key = derive(ephemeral.exchange(ec.ECDH(), public_key(recipient)))
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(scalar) + encryptor.finalize()


def sign_signed_info(key: Key, info: Message) -> bytes:
    """The signature over SignedInfo in the grammar of the xmldsig schema alone, r | s."""
    return sign(key, exi.fragment("SignedInfo", info, "xmldsig"))


def signed_info(parts: Sequence[tuple[str, str, Any]]) -> Message:
    """SignedInfo over [(Id, element name, value)] in that order."""
    return {
        "CanonicalizationMethod": {"Algorithm": CANONICAL_EXI},
        "SignatureMethod": {"Algorithm": ECDSA_SHA256},
        "Reference": [
            {
                "URI": "#" + ident,
                "Transforms": {"Transform": [{"Algorithm": CANONICAL_EXI}]},
                "DigestMethod": {"Algorithm": SHA256},
                "DigestValue": hashlib.sha256(exi.fragment(name, value)).digest(),
            }
            for ident, name, value in parts
        ],
    }


def chain(ders: Sequence[bytes], ident: str | None = None) -> Message:
    """A CertificateChainType of [leaf, sub 2, sub 1]."""
    element: Message = {"Id": ident} if ident else {}
    element["Certificate"] = ders[0]
    if ders[1:]:
        element["SubCertificates"] = {"Certificate": list(ders[1:])}
    return element


def derived(secret: bytes) -> bytes:
    """The AES key (16 bytes) of Z: SP 800-56A concatenation KDF with SHA-256 [V2G2-818]."""
    return ConcatKDFHash(hashes.SHA256(), 16, OTHER_INFO).derive(secret)


def scalar_of(contract: Issued) -> bytes:
    """The contract's private key, 32 bytes."""
    return contract.private_key.private_numbers().private_value.to_bytes(32, "big")


def public_key(encoded: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a 65-byte point."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded)


def body_of(message: Message) -> Message:
    """The CertificateInstallationRes of a message."""
    body: Message = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    return body


def header_of(message: Message) -> Message:
    """The Header of a message."""
    header: Message = message["V2G_Message"]["Header"]
    return header
