"""An existing key as a car's provisioning key: one in a token, or one in a file.

The key's URI goes into the configuration [`evcc.vault.adopted`]. An adopted key is neither changed
nor copied in the token. A key from a file is written into the token as the car's own would be, but
its custody is always "imported", because earlier holders of the file may still have the key.
"""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from evcc import x509 as car_x509
from evcc.identity import Identity, IdentityError
from evcc.ids import IdError, parse_pcid
from evcc.ports import clock
from evcc.ports.files import Files
from evcc.vault import PROVISIONING, VaultError, uri
from evcc.vault import cryptoki as p11
from evcc.vault.cryptoki import imported_pair, secret_template
from evcc.vault.custody import DIALECTS
from evcc.vault.pkcs11 import TokenVault, with_adopted_key
from evcc.vault.possession import proves_possession
from evcc.vault.schemes import SCHEMES
from plugvault.pki import trusted
from plugvault.pki.forms import FormError

_CURVE = SCHEMES["iso2"]
_RESERVED = "plugvault-"  # begins the labels of the car's own keys
_SCALAR = slice(7, 39)  # of an ECPrivateKey on P-256, in DER [RFC 5915]
_LARGEST = 16384  # bytes of a key's file


def name_of(vault: TokenVault, text: str) -> str:
    """The URI of the only private key that `text` names: by its label, its CKA_ID in hexadecimal
    digits, or a URI. Raises: VaultError("not-found" | "refused")."""
    if uri.is_uri(text):
        return text
    names = set()
    for private in vault._backend.find([(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)]):
        try:
            key_id, label = (vault._backend.attribute(private, kind) for kind in _NAMES)
        except VaultError:  # a damaged object
            continue
        if label == text.encode() or (key_id and key_id.hex() == text.lower()):
            names.add(_key_uri(label, key_id))
    if not names:
        raise VaultError("not-found", f"no private key has the label or CKA_ID {text}")
    if len(names) > 1:
        raise VaultError("refused", f"{text} means each of {', '.join(sorted(names))}: say which")
    return names.pop()


_NAMES = (p11.CKA_ID, p11.CKA_LABEL)


def _key_uri(label: bytes, key_id: bytes) -> str:
    parts = [f"object={uri.encoded(label)}"] if label else []
    parts += ["id=" + "".join(f"%{byte:02X}" for byte in key_id)] if key_id else []
    return uri.SCHEME + ";".join(parts)


def adopt(
    vault: TokenVault, text: str, chain: Path | None = None, store: Path | None = None
) -> dict[str, str]:
    """Check that the key named `text` can be a provisioning key, and return {"provisioning": its
    URI, "custody", "point", "pcid"}.

    chain: PEM, the provisioning certificate and its sub-CAs, which must be for this key; store:
    the car's folder, which then keeps them. Nothing is left in the token. Raises:
    VaultError("not-found" | "refused" | "custody"); IdentityError; StoreError.
    """
    name = name_of(vault, text)
    adopted = with_adopted_key(vault, name)
    point = adopted.public(PROVISIONING)
    _prove(adopted, point)
    pcid = ""
    if chain:
        ders = _certificates(chain)
        identity = _AdoptedIdentity(Files(str(store)) if store else _NoFiles(), adopted)
        identity.adopt(ders, clock.now())
        pcid = identity.pcid
    return {
        "provisioning": name,
        "custody": adopted.custody(PROVISIONING),
        "point": point.hex(),
        "pcid": pcid,
    }


class _AdoptedIdentity(Identity):
    """The identity of a car whose key is adopted: its PCID is in the key's certificate."""

    def adopt(self, ders: list[bytes], now: int) -> None:
        """Store the certificate of the adopted key, and the PCID from it. ders: leaf first. Raises
        as `install`."""
        before = self.pcid
        name = _pcid_of(ders)
        if before not in ("", name):
            raise IdentityError("pcid", f"this car is {before}")
        self.pcid = name
        try:
            self.install(ders, [], now)
        except Exception:
            self.pcid = before
            raise
        vault = self._vault
        self._note(vault.public(PROVISIONING), vault.custody(PROVISIONING))


def _pcid_of(ders: list[bytes]) -> str:
    """The PCID in the first of these certificates. Raises: IdentityError."""
    if not ders:
        raise IdentityError("certificate", "there is none")
    try:
        return str(parse_pcid(car_x509.parse(ders[0]).names.get("CN", "")))
    except car_x509.CertificateError as error:
        raise IdentityError("certificate", str(error)) from None
    except IdError as error:
        raise IdentityError("pcid", str(error)) from None


class _NoFiles:
    """A store that keeps nothing, for a certificate that is only checked."""

    def read(self, name: str) -> None:
        return None

    def write(self, name: str, data: bytes) -> None:
        return None


def read_key(file: Path) -> tuple[bytearray, bytes]:
    """(scalar, point) of a private key: PKCS#8 or SEC 1, in PEM or DER. scalar: 32 bytes, which
    the caller wipes; point: 65 bytes.

    Raises: VaultError("refused"); its text contains nothing of the key.
    """
    data = bytearray(_LARGEST + 1)
    try:
        with file.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise VaultError("refused", f"others may read {file}: chmod 600 {file}")
            length = stream.readinto(data)
        if length > _LARGEST:
            raise VaultError("refused", f"{file} is longer than any key")
        return _scalar(memoryview(data)[:length], file)
    except OSError as error:
        raise VaultError("refused", f"{file}: {error.strerror}") from None
    finally:
        wipe(data)


def _scalar(data: memoryview, file: Path) -> tuple[bytearray, bytes]:
    problem = "not a private key in PEM or DER without a password"
    load = load_der_private_key if data[:1].tobytes() == b"\x30" else load_pem_private_key
    try:
        key: Any = load(data, None)
    except Exception:  # noqa: BLE001 - the library's error may contain the key
        key = None
    if key is not None:
        problem = "on another curve than P-256, or no EC key"
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
            scalar = bytearray(memoryview(der)[_SCALAR])
            wipe(der)
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return scalar, point
    raise VaultError("refused", f"{file}: {problem}")


def wipe(data: bytes | bytearray) -> None:
    """Overwrite the data in memory. A `bytes` must have no other reference, because CPython shares
    some objects."""
    if isinstance(data, bytearray):
        data[:] = bytes(len(data))
    else:
        ctypes.memset(id(data) + bytes.__basicsize__ - 1, 0, len(data))


def bring(vault: TokenVault, scalar: bytearray, point: bytes, label: str) -> str:
    """Write a key pair into the token, under a new CKA_ID. Returns its URI. After a failure the
    token is as before.

    scalar: 32 bytes, wiped here. Raises: VaultError("exists": the label is in use | "refused" |
    "full" | …).
    """
    backend, objects = vault._backend, []
    try:
        if not label or label.startswith(_RESERVED):
            raise VaultError(
                "refused", f"give a label of your own, that does not begin with {_RESERVED}"
            )
        for kind in (p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY):
            for existing in backend.find([(p11.CKA_CLASS, kind)]):
                if backend.attribute(existing, p11.CKA_LABEL) == label.encode():
                    raise VaultError("exists", f"the token has a key called {label}")
        backend.check_room()
        key_id = backend.random(16)
        public, private = imported_pair(_CURVE, key_id, label.encode(), point)
        objects.append(backend.create(public))
        objects.append(_create_private(backend, [*private, (p11.CKA_VALUE, scalar)], point))
        name = _key_uri(label.encode(), key_id)
        _prove(with_adopted_key(vault, name), point)
        backend.flush()
    except BaseException:
        for created in objects:
            backend.destroy(created)
        raise
    finally:
        wipe(scalar)
    return name


def _create_private(backend: Any, template: list[tuple[int, Any]], point: bytes) -> Any:
    """The new object, in the first dialect that the token accepts."""
    for dialect in DIALECTS[:-1]:
        with contextlib.suppress(VaultError):
            return backend.create([*template, *dialect.attributes(point)])
    return backend.create([*template, *DIALECTS[-1].attributes(point)])


def _prove(vault: TokenVault, point: bytes) -> None:
    """Check that the key signs for its public half, and derives. Its flags are no proof."""
    if not proves_possession(vault, PROVISIONING, point):
        raise VaultError("refused", "the private key is not that of its public half")
    calls = vault._backend
    private = vault._pair(PROVISIONING)[0]
    template = cast(Any, secret_template)(len(_CURVE.order), sensitive=True, extractable=False)
    calls.destroy(calls.derive(p11.CKM_ECDH1_DERIVE, private, _CURVE.trial[1], template))


def _certificates(file: Path) -> list[bytes]:
    """DER, leaf first."""
    try:
        return trusted.read(file)
    except FormError as error:
        raise VaultError("refused", error.detail) from None
