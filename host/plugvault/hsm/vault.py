"""The module's vault on a token of this process: `evcc`'s own vault over python-pkcs11's calls.

One implementation of the rules for both runtimes; this file only gives it the calls. What CPython
cannot do: K passes as an immutable `bytes` of python-pkcs11, which nothing can wipe.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag

from evcc.vault import VaultError
from evcc.vault.pkcs11 import TokenVault
from evcc.vault.softhsm import check_room, token_folder
from plugvault.hsm.token import Hsm, Token

Template = list[tuple[int, Any]]

_ECDSA = ec.ECDSA(Prehashed(hashes.SHA256()))


def open_vault(module: Path | str, conf: Path | str | None, label: str, pin: str) -> TokenVault:
    """The vault in the token `label`, in this process. Raises as `Hsm` and `Hsm.token` do."""
    hsm = Hsm(module, conf)
    try:
        return TokenVault(Calls(hsm, hsm.token(label, pin), token_folder(conf)))
    except VaultError:
        hsm.close()
        raise


class Calls:
    """The calls `evcc.vault.pkcs11` is written on; see there for what each means."""

    def __init__(self, hsm: Hsm, token: Token, folder: str | None) -> None:
        self._hsm = hsm
        self._token = token
        self._session = token.session
        self._folder = folder

    def check_room(self) -> None:
        check_room(self._folder)

    def create(self, template: Template) -> Any:
        with self._token.call():
            return self._session.create_object(_attributes(template))

    def generate(self, public: Template, private: Template) -> None:
        with self._token.call():
            self._token.generate_pair(_attributes(public), _attributes(private))

    def find(self, template: Template) -> list[Any]:
        with self._token.call():
            return list(self._session.get_objects(_attributes(template)))

    def attribute(self, found: Any, kind: int) -> bytes:
        with self._token.call():
            value = found[Attribute(kind)]
        return value.encode() if isinstance(value, str) else bytes(value)

    def destroy(self, found: Any) -> None:
        with self._token.call():
            found.destroy()

    def sign(self, private: Any, digest: bytes) -> bytes:
        with self._token.call():
            return bytes(private.sign(digest, mechanism=Mechanism.ECDSA))

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """Public data: the library that verifies fastest."""
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        try:
            key.verify(encode_dss_signature(r, s), digest, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def derive(self, private: Any, point: bytes, template: Template) -> Any:
        attributes = _attributes(template)
        with self._token.call():
            return private.derive_key(
                KeyType.GENERIC_SECRET,
                attributes[Attribute.VALUE_LEN] * 8,
                capabilities=MechanismFlag(0),
                mechanism=Mechanism.ECDH1_DERIVE,
                mechanism_param=(KDF.NULL, None, bytes(point)),
                template=attributes,
            )

    def digest(self, mechanism: int, parts: Iterable[Any]) -> bytearray:
        with self._token.call():
            return bytearray(self._session.digest(iter(parts), mechanism=Mechanism(mechanism)))

    def decrypt_cbc(self, key: bytearray, iv: bytes, data: bytes, into: bytearray) -> None:
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        # The library wants room for a block more than it writes.
        room = bytearray(len(data) + 15)
        try:
            decryptor.update_into(data, room)
            into[:] = memoryview(room)[: len(into)]
        finally:
            room[:] = bytes(len(room))

    def random(self, n: int) -> bytes:
        with self._token.call():
            return bytes(self._session.generate_random(n * 8))

    def close(self) -> None:
        self._hsm.close()


def _attributes(template: Template) -> dict[Attribute, Any]:
    return {
        Attribute(kind): value.decode() if kind == Attribute.LABEL else value
        for kind, value in template
    }
