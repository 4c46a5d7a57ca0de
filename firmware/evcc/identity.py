"""Who the car is: its PCID, and the OEM provisioning certificate for the key in the vault.

The PCID is given once, with the first signing request; the certificate may be renewed for the
same key. Both lie in one file, replaced atomically. Another has what was found when the key was
made: the SHA-256 of its point, and its custody. Not secret.
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
    """A provisioning step that does not fit this car; nothing has changed."""

    REASONS = (
        "pcid",  # not one, not this car's, or not in the certificate
        "certificate",  # not one we accept, or its path does not hold
        "key",  # for another key than the vault's
        "damaged",  # the stored file
    )


class Identity:
    """files: a `ports.files.Files`. vault: has the key the certificate is for.

    `pcid`: "" before the factory. `certificate`: DER, or None. `subs`: DER, leaf's issuer first.
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
        """Of the car's key; a new car makes it now, in the vault, and writes down what it is.

        Raises: VaultError; StoreError, then there is no key if the vault lets go of it.
        """
        vault = self._vault
        try:
            return vault.public(PROVISIONING)
        except VaultError as e:
            if e.reason != "not-found":
                raise
        point = vault.generate_provisioning_key()
        try:
            found = vault.custody(PROVISIONING)
            # What a token does not attest, the car knows: it was made there just now.
            self._note(point, "L3" if found == levels.UNATTESTED else found)
        except Exception:
            try:
                vault.delete(PROVISIONING)
            except VaultError:
                pass  # the first failure is the one to report; the key is told as its token does
            raise
        return point

    def adopt(self, ders: list, now: int) -> None:
        """Take an adopted key, the certificate it has already, and the car's name from that.

        Raises as `install`.
        """
        before = self.pcid
        try:
            name = parse_pcid(x509.parse(ders[0]).names.get("CN", ""))
        except (IndexError, x509.CertificateError) as e:
            raise IdentityError("certificate", str(e))
        except IdError as e:
            raise IdentityError("pcid", str(e))
        if before not in ("", name):
            raise IdentityError("pcid", "this car is " + before)
        self.pcid = name
        try:
            self.install(ders, [], now)
        except Exception:
            self.pcid = before
            raise
        vault = self._vault
        self._note(vault.public(PROVISIONING), vault.custody(PROVISIONING))

    def custody(self) -> str:
        """Of the car's key: the lower of what the vault says and what the car wrote down, ""
        before there is one: see `vault.levels`. Raises: VaultError; StoreError."""
        try:
            found = self._vault.custody(PROVISIONING)
            digest = hashlib.sha256(self._vault.public(PROVISIONING)).digest()
        except VaultError as e:
            if e.reason != "not-found":
                raise
            return ""
        stored = self._files.read(KEY_FILE)
        if stored is None:  # adopted, or made before there was such a file
            return found
        try:
            noted, custody = unpack(stored)
            said = text(custody) if noted == digest else levels.UNATTESTED
        except (RecordError, ValueError):
            said = levels.UNATTESTED
        return levels.told(found, said)

    def request(self, pcid: str, organisation: str, country: "str | None") -> bytes:
        """A signing request (PKCS#10, DER) for the provisioning key, and the car's name from now.

        Raises: IdentityError("pcid"); VaultError; StoreError.
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
        self._keep(pcid, self._ders())
        return csr

    def install(self, ders: list, anchors: list, now: int) -> None:
        """Take the certificate and its sub-CAs. ders: DER, leaf first. anchors: OEM roots.

        Where the car holds no OEM root, its own links must still hold: the maker, who is
        authenticated, vouches for the rest. Raises: IdentityError; VaultError; StoreError.
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
        self._keep(self.pcid, ders)

    def _note(self, point: bytes, custody: str) -> None:
        self._files.write(KEY_FILE, pack([hashlib.sha256(point).digest(), custody.encode()]))

    def _ders(self) -> list:
        return [] if self.certificate is None else [self.certificate] + self.subs

    def _keep(self, pcid: str, ders: list) -> None:
        self._files.write(FILE, pack([pcid.encode()] + ders))
        self._take(pcid, ders)

    def _take(self, pcid: str, ders: list) -> None:
        self.pcid = pcid
        self.certificate = ders[0] if ders else None
        self.subs = ders[1:]
