"""The module's vault on a token of this process: `evcc`'s own vault over python-pkcs11's calls.

One implementation of the rules for both runtimes; this file only gives it the calls.
"""

import ctypes
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, PKCS11Error
from pkcs11._pkcs11 import SearchIter  # type: ignore[attr-defined]

from evcc.vault import VaultError, nss
from evcc.vault.adopted import Adopted
from evcc.vault.cryptoki import CKA_LABEL, CKA_TOKEN, in_two_steps
from evcc.vault.pkcs11 import TokenVault
from evcc.vault.softhsm import check_room, token_folder
from evcc.vault.softhsm_files import flush, reload
from plugvault.cryptoki.library import MAPPER
from plugvault.cryptoki.token import DAMAGED, Hsm, Token

Template = list[tuple[int, Any]]

_ECDSA = ec.ECDSA(Prehashed(hashes.SHA256()))


def open_vault(
    module: Path | str,
    conf: Path | str | None,
    label: str,
    pin: str | bytearray,
    options: str = "",
    minimum_custody: str = "",
    provisioning: str = "",
) -> TokenVault:
    """The vault in the token `label`, in this process. label: or a URI [`uri.Name`];
    minimum_custody: of `levels.LEVELS`; provisioning: the URI of a key that is adopted, or "".

    Raises as `Hsm` and `Hsm.token` do, and VaultError("custody") for a weaker token.
    """
    adopted = Adopted(provisioning) if provisioning else None
    hsm = Hsm(module, conf, options)
    try:
        calls = HostBackend(hsm, hsm.token(label, pin), token_folder(conf), options)
    except VaultError:
        hsm.close()
        raise
    return TokenVault(calls, minimum_custody, adopted)  # closes them if it refuses


class HostBackend:
    """The calls `evcc.vault.pkcs11` is written on; see there for what each means."""

    def __init__(self, hsm: Hsm, token: Token, folder: str | None, options: str) -> None:
        self._hsm = hsm
        self._token = token
        self._session = token.session
        self._folder, self._options = folder, options
        self._direct, self._alone = token.direct, token.call()

    def check_room(self) -> None:
        check_room(self._folder)

    def flush(self) -> None:
        flush(self._folder, self._token.label)
        nss.flush(self._options, self._token.label)

    def reload(self) -> None:
        reload(self._folder, self._token.label)

    def create(self, template: Template) -> Any:
        with self._alone:
            if not (self._folder and (CKA_TOKEN, True) in template):
                return self._create(template)
            # As on MicroPython: SoftHSM writes a copied object's file in far fewer steps.
            first, late = in_two_steps(template)
            made = self._create(first)
            try:
                return made.copy(_attributes(late))
            finally:
                made.destroy()

    def copy(self, found: Any, template: Template) -> Any:
        with self._alone:
            return found.copy(_attributes(template))

    def _create(self, template: Template) -> Any:
        attributes = _attributes(template)
        if not isinstance(attributes.get(Attribute.VALUE, b""), bytes):  # a secret, to be wiped
            return self._direct.create(self._session, attributes)
        return self._session.create_object(attributes)

    def generate(self, public: Template, private: Template) -> tuple[Any, Any]:
        with self._alone:
            return self._token.generate_pair(_attributes(public), _attributes(private))

    def generate_secret(self, template: Template) -> Any:
        attributes = _attributes(template)
        with self._alone:
            return self._session.generate_key(
                KeyType.AES,
                attributes[Attribute.VALUE_LEN] * 8,
                mechanism=Mechanism.AES_KEY_GEN,
                capabilities=MechanismFlag(0),
                template=attributes,
            )

    def find(self, template: Template) -> list[Any]:
        """Without those that cannot even be taken in the hand: torn, or destroyed meanwhile by
        another process. `get_objects` would end at the first of them."""
        found: list[Any] = []
        with (
            self._alone,
            SearchIter(self._session, _attributes(template), 1) as search,
        ):
            for one in search:
                with suppress(PKCS11Error, *DAMAGED):
                    found += one
        return found

    def attribute(self, found: Any, kind: int) -> bytes:
        with self._alone:
            value = found[Attribute(kind)]
        return MAPPER.pack_attribute(Attribute(kind), value)

    def reopen(self) -> None:
        self._token.reopen()
        self._session = self._token.session

    def destroy(self, found: Any) -> None:
        with self._alone:
            found.destroy()

    def sign(self, private: Any, digest: bytes) -> bytes:
        with self._call_on(private, "sign") as sign:
            return bytes(sign(digest, mechanism=Mechanism.ECDSA))

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """Public data: the library that verifies fastest."""
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        try:
            key.verify(encode_dss_signature(r, s), digest, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def derive(self, mechanism: int, key: Any, data: bytes | None, template: Template) -> Any:
        attributes = _attributes(template)
        parameter: Any = None
        if mechanism == Mechanism.ECDH1_DERIVE:
            parameter = (KDF.NULL, None, data)
        elif data is not None:  # CK_KEY_DERIVATION_STRING_DATA
            kept = ctypes.create_string_buffer(data, len(data))
            parameter = struct.pack("@PL", ctypes.addressof(kept), len(data))
        with self._call_on(key, "derive_key") as derive:
            return derive(
                KeyType(attributes[Attribute.KEY_TYPE]),
                attributes[Attribute.VALUE_LEN] * 8,
                capabilities=MechanismFlag(0),
                mechanism=Mechanism(mechanism),
                mechanism_param=parameter,
                template=attributes,
            )

    def wrap(self, mechanism: int, key: Any, iv: bytes, wrapped: Any) -> bytes:
        with self._call_on(key, "wrap_key") as wrap:
            return bytes(wrap(wrapped, mechanism=Mechanism(mechanism), mechanism_param=iv))

    def unwrap(self, mechanism: int, key: Any, iv: bytes, data: bytes, template: Template) -> Any:
        attributes = _attributes(template)
        with self._call_on(key, "unwrap_key") as unwrap:
            return unwrap(
                ObjectClass(attributes[Attribute.CLASS]),
                KeyType(attributes[Attribute.KEY_TYPE]),
                data,
                mechanism=Mechanism(mechanism),
                mechanism_param=iv,
                capabilities=MechanismFlag(0),
                template=attributes,
            )

    def digest(self, mechanism: int, parts: Iterable[Any]) -> bytearray:
        with self._alone:
            return self._direct.digest(self._session, mechanism, parts)

    def decrypt_cbc(self, key: bytearray, iv: bytes, data: bytes, into: bytearray) -> None:
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        # The library wants room for a block more than it writes.
        room = bytearray(len(data) + 15)
        try:
            decryptor.update_into(data, room)
            into[:] = memoryview(room)[: len(into)]
        finally:
            room[:] = bytes(len(room))

    def ecb(self, key: bytes | bytearray, is_encryption: bool, block: bytes) -> bytes:
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - single blocks, of CBC
        return (cipher.encryptor() if is_encryption else cipher.decryptor()).update(block)

    def random(self, n: int) -> bytes:
        with self._alone:
            return bytes(self._session.generate_random(n * 8))

    def close(self) -> None:
        self._hsm.close()

    @contextmanager
    def _call_on(self, found: Any, name: str) -> Iterator[Any]:
        """One operation of an object; python-pkcs11 has it if the token says the object does."""
        with self._alone:
            if not hasattr(found, name):
                raise VaultError("refused", name)
            yield getattr(found, name)


def _attributes(template: Template) -> dict[Any, Any]:
    """Numbers for python-pkcs11's names: they are equal, and some it does not know."""
    return {kind: value.decode() if kind == CKA_LABEL else value for kind, value in template}
