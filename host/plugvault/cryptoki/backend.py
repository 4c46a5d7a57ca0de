"""The module's vault on a token of this process: `evcc`'s vault over python-pkcs11.

The vault's rules have one implementation for both runtimes; here is only its Cryptoki backend.
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

from evcc.vault import VaultError
from evcc.vault.adopted import Adopted
from evcc.vault.backend import CryptokiBackend
from evcc.vault.cryptoki import CKA_LABEL
from evcc.vault.pkcs11 import TokenVault
from plugvault.cryptoki.attributes import MAPPER
from plugvault.cryptoki.errors import DAMAGED
from plugvault.cryptoki.hsm import Hsm
from plugvault.cryptoki.token import Token

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
    """The vault in the token `label`, in this process.

    label: the token's label, or a URI [`uri.Name`]; pin: a caller wipes its own bytearray;
    options: the text for C_Initialize; minimum_custody: of `levels.LEVELS`; provisioning: the URI
    of a key that is adopted, or "".

    Raises as `Hsm` and `Hsm.token` do, and VaultError("custody") for a token that gives less.
    """
    adopted = Adopted(provisioning) if provisioning else None
    hsm = Hsm(module, conf, options)
    try:
        backend = HostBackend(hsm, hsm.token(label, pin))
    except VaultError:
        hsm.close()
        raise
    return TokenVault(backend, minimum_custody, adopted)  # closes the backend if it refuses


class HostBackend(CryptokiBackend):
    """The Cryptoki backend over python-pkcs11."""

    def __init__(self, hsm: Hsm, token: Token) -> None:
        super().__init__(token.files, token.label)
        self._hsm = hsm
        self._token = token
        self._session = token.session
        self._direct_calls, self._call = token.direct_calls, token.call()

    def create(self, template: Template) -> Any:
        with self._call:
            return super().create(template)

    def copy(self, key: Any, template: Template) -> Any:
        with self._call:
            return key.copy(_attributes(template))

    def _create(self, template: Template) -> Any:
        attributes = _attributes(template)
        if not isinstance(attributes.get(Attribute.VALUE, b""), bytes):  # a secret, to be wiped
            return self._direct_calls.create(self._session, attributes)
        return self._session.create_object(attributes)

    def generate(self, public: Template, private: Template) -> tuple[Any, Any]:
        with self._call:
            return self._token.generate_pair(_attributes(public), _attributes(private))

    def generate_secret(self, template: Template) -> Any:
        attributes = _attributes(template)
        with self._call:
            return self._session.generate_key(
                KeyType.AES,
                attributes[Attribute.VALUE_LEN] * 8,
                mechanism=Mechanism.AES_KEY_GEN,
                capabilities=MechanismFlag(0),
                template=attributes,
            )

    def find(self, template: Template) -> list[Any]:
        """The matching objects, without damaged ones and without those that another process has
        destroyed meanwhile. `get_objects` would end at the first of these."""
        objects: list[Any] = []
        with (
            self._call,
            SearchIter(self._session, _attributes(template), 1) as search,
        ):
            for batch in search:
                with suppress(PKCS11Error, *DAMAGED):
                    objects += batch
        return objects

    def attribute(self, key: Any, kind: int) -> bytes:
        with self._call:
            value = key[Attribute(kind)]
        return MAPPER.pack_attribute(Attribute(kind), value)

    def reopen(self) -> None:
        self._token.reopen()
        self._session = self._token.session

    def destroy(self, key: Any) -> None:
        with self._call:
            key.destroy()

    def sign(self, private: Any, digest: bytes) -> bytes:
        with self._call_on(private, "sign") as sign:
            return bytes(sign(digest, mechanism=Mechanism.ECDSA))

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """Verify with `cryptography`, which is faster than a token; all data is public."""
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
            buffer = ctypes.create_string_buffer(data, len(data))  # must live until the call
            parameter = struct.pack("@PL", ctypes.addressof(buffer), len(data))
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
        with self._call:
            return self._direct_calls.digest(self._session, mechanism, parts)

    def decrypt_cbc(self, key: bytearray, iv: bytes, data: bytes, into: bytearray) -> None:
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        # The library needs room for one block more than it writes.
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
        with self._call:
            return bytes(self._session.generate_random(n * 8))

    def close(self) -> None:
        self._hsm.close()

    @contextmanager
    def _call_on(self, key: Any, name: str) -> Iterator[Any]:
        """One operation of a key. python-pkcs11 has it as a method if the token reports it."""
        with self._call:
            if not hasattr(key, name):
                raise VaultError("refused", name)
            yield getattr(key, name)


def _attributes(template: Template) -> dict[Any, Any]:
    """A template for python-pkcs11. Its attribute names equal their numbers, so attributes that it
    does not know are possible too."""
    return {kind: value.decode() if kind == CKA_LABEL else value for kind, value in template}
