"""A PKCS#11 token on the host: its login, and the keys of one role in it.

Keys are found by CKA_ID, which for a role's key is its label: SoftHSM's search by label can fail
for every key once one object is damaged.
"""

import hmac
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key

from evcc.vault import VaultError
from plugvault.cryptoki.attributes import MAPPER
from plugvault.cryptoki.ec_keys import CURVES, CURVES_BY_PARAMETERS, TokenKey
from plugvault.cryptoki.keys import templates
from plugvault.cryptoki.library import Library
from plugvault.cryptoki.pin_attempts import fingerprint, one_attempt


class Token:
    """A logged-in token, with the keys of one role. `Hsm.token` makes it. name: see `uri.Name`.
    pin: the caller wipes a bytearray."""

    def __init__(self, library: Library, name: str, pin: str | bytearray) -> None:
        self.call = library.call
        self.direct_calls, self.files = library.direct_calls, library.driver.files
        self._pin = fingerprint(pin)
        with one_attempt(pin, library.path, library.conf or library.options, name):
            self.session, self.label = library.log_in(name, pin)
        self.slot = self.session.token.slot.slot_id
        self.files.back_up(self.label)

    def reopen(self) -> None:
        """Open another session, for one that the token left unusable. The old session stays open,
        because it holds the login."""
        with self.call():
            self.session = self.session.token.open(rw=True, attribute_mapper=MAPPER)

    def is_pin(self, pin: str | bytearray) -> bool:
        """Whether the token was opened with this PIN."""
        return hmac.compare_digest(self._pin, fingerprint(pin))

    def generate(
        self, label: str, usage: tuple[str, ...] = ("sign",), curve: str = "secp256r1"
    ) -> "TokenKey":
        """Make a key pair that never leaves the token. usage: of "sign", "derive"; curve: of
        `ec_keys.CURVES`.

        Raises: VaultError("exists" | "full" | "unavailable"); no half of a pair is left then.
        """
        key_id = label.encode()
        with self.call():
            if self.find(key_id, ObjectClass.PRIVATE_KEY):
                raise VaultError("exists", label)
            self.files.check_room()
            public, private = templates(label, usage)
            try:
                self.generate_pair(
                    {**public, Attribute.EC_PARAMS: CURVES[curve].parameters}, private
                )
            except pkcs11.PKCS11Error:
                for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
                    for half in self.find(key_id, kind):
                        half.destroy()
                raise
            return self.key(label)

    def bring(
        self,
        label: str,
        key: ec.EllipticCurvePrivateKey,
        usage: tuple[str, ...] = ("sign",),
    ) -> "TokenKey":
        """Write an existing key pair on P-256 into the token, from which it never leaves again.
        usage: of "sign", "derive".

        Raises: VaultError("exists" | "refused": another curve | "full" | "unavailable"); no half
        of a pair is left then.
        """
        if key.curve.name not in CURVES:
            raise VaultError("refused", f"{label} is on {key.curve.name}, which is not used here")
        key_id = label.encode()
        public, private = templates(label, usage)
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        halves = (
            {**decode_ec_public_key(key.public_key().public_bytes(*form)), **public},
            {
                **decode_ec_private_key(
                    key.private_bytes(
                        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
                    )
                ),
                **private,
            },
        )
        with self.call():
            if self.find(key_id, ObjectClass.PRIVATE_KEY):
                raise VaultError("exists", label)
            self.files.check_room()
            public_half = self.session.create_object(halves[0])
            try:
                self.session.create_object(halves[1])
            except pkcs11.PKCS11Error:
                public_half.destroy()
                raise
            return self.key(label)

    def generate_pair(
        self, public: dict[Attribute, Any], private: dict[Attribute, Any]
    ) -> tuple[Any, Any]:
        """C_GenerateKeyPair on the curve of `public` with exactly these flags. Returns the public
        half first. For use within `call`."""
        curve = {Attribute.EC_PARAMS: public[Attribute.EC_PARAMS]}
        parameters = self.session.create_domain_parameters(KeyType.EC, curve, local=True)
        pair: tuple[Any, Any] = parameters.generate_keypair(
            mechanism=Mechanism.EC_KEY_PAIR_GEN,
            capabilities=MechanismFlag(0),  # the templates have them all
            store=True,
            public_template=public,
            private_template=private,
        )
        return pair

    def key(self, label: str) -> "TokenKey":
        """The key of that label. Raises: VaultError("not-found")."""
        with self.call():
            private, public = self.pair(label)
            curve = CURVES_BY_PARAMETERS.get(public[Attribute.EC_PARAMS])
            if curve is None:
                raise VaultError("not-found", f"{label} is on a curve that is not used here")
            # A token gives the point bare or as a DER octet string: its last bytes either way.
            point = public[Attribute.EC_POINT][-2 * curve.size - 1 :]
            return TokenKey(self, label, private, point, curve)

    def pair(self, label: str) -> tuple[Any, Any]:
        """The token's two objects of a key, private and public, whatever its kind; for use within
        `call`. Raises: VaultError("not-found")."""
        kinds = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
        private, public = (self.find(label.encode(), kind) for kind in kinds)
        if not (private and public):
            raise VaultError("not-found", label)
        return private[0], public[0]

    def sign(self, label: str, digest: bytes) -> bytes:
        """The signature of the key of that label, as `TokenKey.sign_digest`: r | s."""
        return self.key(label).sign_digest(digest)

    def find(self, key_id: bytes, kind: ObjectClass) -> list[Any]:
        """The token's objects of that id and class; for use within `call`."""
        template = {Attribute.CLASS: kind, Attribute.ID: key_id}
        # A list, not the running search: an open search blocks the session for every caller.
        objects = list(self.session.get_objects(template))
        if not objects:  # another process may have made it since the library read the files
            self.files.reload(self.label)
            objects = list(self.session.get_objects(template))
        return objects

    def __repr__(self) -> str:
        return f"Token({self.label!r})"
