"""The car's identity: its PCID, and the OEM provisioning certificate for the key in the vault.

The PCID is set once, with the first signing request; the certificate may be renewed for the same
key. Both lie in one file, replaced atomically. Another file holds the SHA-256 of the key's point
and the custody of the key when it was made. Neither is secret.
"""

import hashlib

from . import chain, x509
from .csr import build
from .errors import EvccError
from .ids import IdError, parse_pcid
from .record import RecordError, pack, text, unpack
from .vault import PROVISIONING, VaultError, levels

FILE = "identity"
KEY_FILE = "provisioning-key"


class IdentityError(EvccError):
    """A provisioning step that does not fit this car; it changes nothing."""

    REASONS = (
        "pcid",  # malformed, another car's, or not in the certificate
        "certificate",  # not acceptable, or its path does not hold
        "key",  # the certificate is for another key than the vault's
        "damaged",  # the stored file
    )


class Identity:
    """files: a `ports.files.Files`. vault: has the certificate's key.

    `pcid`: "" before the first `request`. `certificate`: DER, or None. `subs`: DER, the leaf's
    issuer first.
    Raises: IdentityError("damaged"); StoreError.
    """

    def __init__(self, files, vault) -> None:
        self._files = files
        self._vault = vault
        self.pcid = ""
        self.certificate = None
        self.subs: list = []
        stored = files.read(FILE)
        if stored is not None:
            try:
                self._load(unpack(stored))
            except (RecordError, IdError, x509.CertificateError) as e:
                raise IdentityError("damaged", "the car's identity: " + str(e))

    def _load(self, fields: list) -> None:
        if not 0 < len(fields) <= 2 + chain.MAX_SUBS:
            raise RecordError("damaged", "number of fields")
        pcid = parse_pcid(text(fields[0]))
        certificates = [x509.parse(der) for der in fields[1:]]
        if certificates and certificates[0].names.get("CN") != pcid:
            raise RecordError("damaged", "a certificate of another car")
        self._take(pcid, fields[1:])

    def point(self) -> bytes:
        """The point of the car's key, 65 bytes. A new car makes the key, and notes its custody.

        Raises: VaultError; StoreError, and then deletes the key again, if the vault can.
        """
        vault = self._vault
        try:
            return vault.public(PROVISIONING)
        except VaultError as e:
            if e.reason != "not-found":
                raise
        point = vault.generate_provisioning_key()
        try:
            custody = vault.custody(PROVISIONING)
            # A token may attest nothing, but the car has just had the key made there.
            self._note(point, "L3" if custody == levels.UNATTESTED else custody)
        except Exception:
            try:
                vault.delete(PROVISIONING)
            except VaultError:
                pass  # the first failure is the one to report
            raise
        return point

    def custody(self) -> str:
        """The custody of the car's key, of the level in the vault and the level that the car noted
        (`vault.levels`); "" if there is no key. Raises: VaultError; StoreError."""
        try:
            custody = self._vault.custody(PROVISIONING)
            digest = hashlib.sha256(self._vault.public(PROVISIONING)).digest()
        except VaultError as e:
            if e.reason != "not-found":
                raise
            return ""
        stored = self._files.read(KEY_FILE)
        if stored is None:  # adopted, or made by a version that wrote no such file
            return custody
        try:
            noted_digest, word = unpack(stored)
            note = text(word) if noted_digest == digest else levels.UNATTESTED
        except (RecordError, ValueError):
            note = levels.UNATTESTED
        return levels.reconcile(custody, note)

    def request(self, pcid: str, organisation: str, country: "str | None") -> bytes:
        """A signing request (PKCS#10, DER) for the provisioning key. Sets the car's PCID.

        organisation, country: see `csr.build`. Raises: IdentityError("pcid"); VaultError;
        StoreError.
        """
        try:
            pcid = parse_pcid(pcid)
        except IdError as e:
            raise IdentityError("pcid", str(e))
        if self.certificate is not None and pcid != self.pcid:
            raise IdentityError("pcid", "this car is " + self.pcid)
        vault = self._vault
        point = vault.public(PROVISIONING)
        csr = build(pcid, organisation, country, point, lambda d: vault.sign(PROVISIONING, d))
        self._store(pcid, self._ders())
        return csr

    def install(self, ders: list, anchors: list, now: int) -> None:
        """Store the certificate and its sub-CAs. ders: DER, leaf first. anchors: OEM roots, as
        `x509.Certificate`. now: unix seconds.

        In a car without OEM roots the chain's own links must still be valid; the authenticated
        maker is responsible for its root. Raises: IdentityError("certificate" | "key" | "pcid");
        VaultError; StoreError.
        """
        try:
            certificates = [x509.parse(der) for der in ders]
            leaf = certificates[0]
            chain.validate(
                leaf,
                certificates[1:],
                anchors,
                chain.PROVISIONING,
                now,
                self._vault.verify,
                transitive=True,
            )
        except IndexError:
            raise IdentityError("certificate", "there is none")
        except x509.CertificateError as e:
            raise IdentityError("certificate", str(e))
        if leaf.point != self._vault.public(PROVISIONING):
            raise IdentityError("key", "the certificate is for another key")
        if leaf.names.get("CN") != self.pcid:
            raise IdentityError("pcid", "the certificate is not for " + (self.pcid or "a car yet"))
        self._store(self.pcid, ders)

    def _note(self, point: bytes, custody: str) -> None:
        self._files.write(KEY_FILE, pack([hashlib.sha256(point).digest(), custody.encode()]))

    def _ders(self) -> list:
        return [] if self.certificate is None else [self.certificate] + self.subs

    def _store(self, pcid: str, ders: list) -> None:
        self._files.write(FILE, pack([pcid.encode()] + ders))
        self._take(pcid, ders)

    def _take(self, pcid: str, ders: list) -> None:
        self.pcid = pcid
        self.certificate = ders[0] if ders else None
        self.subs = ders[1:]
