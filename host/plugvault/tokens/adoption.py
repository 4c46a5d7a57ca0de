"""A key of one's own as a car's provisioning key: one that is in a token, or one in a file.

What names it goes into the configuration [`evcc.vault.adopted`]; in the token nothing is changed
for an adopted key, and nothing copied. A key from a file is written into the token as the car's
own would be, but that its custody is "imported" for ever: who had the file may have it still.
"""

import ctypes
import os
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from evcc.identity import Identity
from evcc.ports import clock
from evcc.ports.files import Files
from evcc.vault import PROVISIONING, VaultError, uri
from evcc.vault import cryptoki as p11
from evcc.vault.cryptoki import imported_pair, secret_template
from evcc.vault.pkcs11 import TokenVault, with_adopted_key
from evcc.vault.possession import proves_possession
from evcc.vault.schemes import SCHEMES

_CURVE = SCHEMES["iso2"]
_OURS = "plugvault-"  # labels of the car's own keys
_SCALAR = slice(7, 39)  # of an ECPrivateKey on P-256, in DER [RFC 5915]
_LARGEST = 16384  # bytes of a key's file


def name_of(vault: TokenVault, text: str) -> str:
    """The URI of the one private key that `text` means: a label, a CKA_ID in hexadecimal digits,
    or a URI. Raises: VaultError("not-found" | "refused")."""
    if uri.is_uri(text):
        return text
    names = set()
    for found in vault._backend.find([(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)]):
        try:
            key, label = (vault._backend.attribute(found, kind) for kind in _NAMES)
        except VaultError:  # it is torn
            continue
        if label == text.encode() or (key and key.hex() == text.lower()):
            parts = [f"object={uri.encoded(label)}"] if label else []
            parts += ["id=" + "".join(f"%{byte:02X}" for byte in key)] if key else []
            names.add(uri.SCHEME + ";".join(parts))
    if not names:
        raise VaultError("not-found", f"no private key has the label or CKA_ID {text}")
    if len(names) > 1:
        raise VaultError("refused", f"{text} means each of {', '.join(sorted(names))}: say which")
    return names.pop()


_NAMES = (p11.CKA_ID, p11.CKA_LABEL)


def adopt(
    vault: TokenVault, text: str, chain: Path | None = None, store: Path | None = None
) -> dict[str, str]:
    """What `text` names, when it can be a provisioning key: {"provisioning": its URI, "custody",
    "point", "pcid"}.

    chain: PEM, the provisioning certificate and its sub-CAs, which must be for this key; store:
    the car's, where they are kept from now on. Leaves nothing in the token.
    Raises: VaultError("not-found" | "refused" | "custody"); IdentityError; StoreError.
    """
    name = name_of(vault, text)
    adopted = with_adopted_key(vault, name)
    point = adopted.public(PROVISIONING)
    _prove(adopted, point)
    pcid = ""
    if chain:
        ders = _certificates(chain)
        identity = Identity(Files(str(store)) if store else _Nowhere(), adopted)
        identity.adopt(ders, clock.now())
        pcid = identity.pcid
    return {
        "provisioning": name,
        "custody": adopted.custody(PROVISIONING),
        "point": point.hex(),
        "pcid": pcid,
    }


class _Nowhere:
    """Files that keep nothing: a certificate that is only checked."""

    def read(self, name: str) -> None:
        return None

    def write(self, name: str, data: bytes) -> None:
        return None


def read_key(file: Path) -> tuple[bytearray, bytes]:
    """(scalar, point) of a private key in PEM: PKCS#8, or SEC 1. The caller wipes the scalar.

    Raises: VaultError("refused"), with nothing of the key in it.
    """
    data = bytearray(_LARGEST + 1)
    try:
        with file.open("rb", buffering=0) as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                raise VaultError("refused", f"others may read {file}: chmod 600 {file}")
            length = opened.readinto(data)
        if length > _LARGEST:
            raise VaultError("refused", f"{file} is longer than any key")
        return _scalar(data, file)
    except OSError as error:
        raise VaultError("refused", f"{file}: {error.strerror}") from None
    finally:
        wipe(data)


def _scalar(data: bytearray, file: Path) -> tuple[bytearray, bytes]:
    why = "not a private key in PEM without a password"
    try:
        key: Any = load_pem_private_key(data, None)
    except Exception:  # noqa: BLE001 - the library's, whose text may show what it read
        key = None
    if key is not None:
        why = "on another curve than P-256, or no EC key"
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
            scalar = bytearray(memoryview(der)[_SCALAR])
            wipe(der)
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return scalar, point
    raise VaultError("refused", f"{file}: {why}")


def wipe(data: bytes | bytearray) -> None:
    """Overwrite it where it lies. Of `bytes` that nobody else holds only: CPython shares some."""
    if isinstance(data, bytearray):
        data[:] = bytes(len(data))
    else:
        ctypes.memset(id(data) + bytes.__basicsize__ - 1, 0, len(data))


def bring(vault: TokenVault, scalar: bytearray, point: bytes, label: str) -> str:
    """Write a key pair into the token, under a new CKA_ID; its URI. All or nothing.

    The scalar is wiped. Raises: VaultError("exists": the label is taken | "refused" | "full" | …).
    """
    calls, made = vault._backend, []
    try:
        if not label or label.startswith(_OURS):
            raise VaultError("refused", f"a label of your own, that does not begin with {_OURS}")
        for kind in (p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY):
            for found in calls.find([(p11.CKA_CLASS, kind)]):
                if calls.attribute(found, p11.CKA_LABEL) == label.encode():
                    raise VaultError("exists", f"the token has a key called {label}")
        calls.check_room()
        key = calls.random(16)
        public, private = imported_pair(_CURVE, key, label.encode(), point)
        made.append(calls.create(public))
        made.append(_create_private(calls, [*private, (p11.CKA_VALUE, scalar)], point))
        name = f"{uri.SCHEME}object={uri.encoded(label.encode())};id="
        name += "".join(f"%{byte:02X}" for byte in key)
        _prove(with_adopted_key(vault, name), point)
        calls.flush()
    except BaseException:
        for one in made:
            calls.destroy(one)
        raise
    finally:
        wipe(scalar)
    return name


def _create_private(calls: Any, template: list[tuple[int, Any]], point: bytes) -> Any:
    try:
        return calls.create(template)
    except VaultError:  # NSS files a private key by its point
        return calls.create([*template, (p11.CKA_NSS_DB, point)])


def _prove(vault: TokenVault, point: bytes) -> None:
    """That the key signs for its public half, and derives: flags are not enough."""
    if not proves_possession(vault, PROVISIONING, point):
        raise VaultError("refused", "the private key is not that of its public half")
    calls = vault._backend
    private = vault._pair(PROVISIONING)[0]
    template = cast(Any, secret_template)(len(_CURVE.order), sensitive=True, extractable=False)
    calls.destroy(calls.derive(p11.CKM_ECDH1_DERIVE, private, _CURVE.trial[1], template))


def _certificates(file: Path) -> list[bytes]:
    """DER, leaf first."""
    try:
        chain = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise VaultError("refused", f"{file}: {error.strerror}") from None
    except ValueError:
        raise VaultError("refused", f"{file} holds no certificates in PEM") from None
    return [one.public_bytes(Encoding.DER) for one in chain]
