"""PKCS#11 tokens on the host: open them, and use their EC keys as `cryptography` keys.

python-pkcs11 initialises a library without telling it about threads and lets go of the
interpreter lock inside each call; two calls at once then crash SoftHSM. So a library has one lock
here, held for each whole operation: the "no two threads at once" that C_Initialize(NULL) promises
[PKCS#11 2.40, 5.4], without the cost of handing every call to a thread.

Keys are found by CKA_ID, which for a role's key is its label: SoftHSM's search by label can fail
for every key once one object is damaged. A process can have many tokens open, of one store.
"""

import atexit
import ctypes
import hashlib
import hmac
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from evcc.vault import VaultError, uri
from evcc.vault.pin import tries_left
from evcc.vault.softhsm import check_room, token_folder
from evcc.vault.softhsm_files import back_up, reload, repair
from plugvault.cryptoki.direct import Direct
from plugvault.cryptoki.library import MAPPER, Library
from plugvault.cryptoki.pin_attempts import fingerprint, one_attempt


@dataclass(frozen=True)
class Curve:
    """`hash`: what its keys sign with, and no other."""

    parameters: bytes
    curve: ec.EllipticCurve
    hash: hashes.HashAlgorithm

    @property
    def size(self) -> int:
        """Bytes of a coordinate."""
        return (self.curve.key_size + 7) // 8


CURVES = {
    "secp256r1": Curve(
        encode_named_curve_parameters("1.2.840.10045.3.1.7"), ec.SECP256R1(), hashes.SHA256()
    ),
    "secp521r1": Curve(
        encode_named_curve_parameters("1.3.132.0.35"), ec.SECP521R1(), hashes.SHA512()
    ),
}
_BY_PARAMETERS = {curve.parameters: curve for curve in CURVES.values()}

# What python-pkcs11 makes of an attribute that is no text, none of the numbers there are, or not
# as long as its type is.
DAMAGED = (ValueError, struct.error)
_REASONS: dict[type[Exception], str] = {
    pkcs11.PinIncorrect: "pin",
    pkcs11.PinInvalid: "pin",
    pkcs11.PinLenRange: "pin",
    pkcs11.UserPinNotInitialized: "pin",
    pkcs11.PinLocked: "pin-locked",
    pkcs11.PinExpired: "pin-locked",
    pkcs11.DeviceRemoved: "token-missing",
    pkcs11.TokenNotPresent: "token-missing",
    pkcs11.TokenNotRecognised: "token-missing",
    pkcs11.DeviceMemory: "full",
    pkcs11.HostMemory: "full",
    pkcs11.TokenWriteProtected: "full",
    pkcs11.FunctionFailed: "refused",
    pkcs11.WrappedKeyInvalid: "refused",
}


class _Call:
    """See `_Library.call`. One object for every call: a generator for each would cost a twentieth
    of a signature."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self.is_forked = False

    def __enter__(self) -> None:
        if self.is_forked:
            raise VaultError("unavailable", "its parent process has this token open")
        self._lock.acquire()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lock.release()
        if error is None:
            return
        if isinstance(error, pkcs11.PKCS11Error):
            reason = _REASONS.get(type(error), "unavailable")
            raise VaultError(reason, f"{type(error).__name__} {error}".strip()) from error
        if isinstance(error, DAMAGED):
            raise VaultError("unavailable", "an attribute in the token is damaged") from error


class _Library:
    """One initialised PKCS#11 library: its lock, its open tokens and who uses it."""

    def __init__(self, path: str, conf: str | None, options: str) -> None:
        self.path, self.conf, self.options, self.users = path, conf, options, 0
        self.lock = threading.RLock()
        self._call = _Call(self.lock)
        self.tokens: dict[str, Token] = {}
        if conf:
            os.environ["SOFTHSM2_CONF"] = conf
            repair(token_folder(conf))
        try:
            self.lib: Any = Library(path, options) if options else pkcs11.lib(path)
        except (RuntimeError, OSError) as error:
            # The base class itself is what could not be loaded; the library's own codes are below.
            reason = "module-missing" if type(error) is pkcs11.PKCS11Error else "unavailable"
            raise VaultError(reason, f"{path} does not start: {error!r}") from error
        self.direct = Direct(path)

    def call(self) -> "_Call":
        """`with` it: one operation on the library, alone in it, its failure a VaultError."""
        return self._call

    def unload(self) -> None:
        if self.options:
            self.lib.close()
        else:
            pkcs11.unload(self.path)

    def find_token(self, name: str) -> Any:
        with self.call():
            if not self.tokens:
                self.lib.reinitialize()  # sees the tokens made since; there is no handle to lose
            return self._named(name)

    def _named(self, name: str) -> Any:
        wanted = uri.Name(name)
        with self.call():
            found = self.lib.get_tokens()
            return wanted.pick([(one, self.direct.token_info(one.slot.slot_id)) for one in found])

    def open_by_another_name(self, name: str) -> "Token | None":
        """A token can be logged in once in a process."""
        if not self.tokens:
            return None
        slot = self._named(name).slot.slot_id
        return next((token for token in self.tokens.values() if token.slot == slot), None)

    def log_in(self, name: str, pin: str | bytearray) -> tuple[Any, str]:
        """A session, and the token's label, which SoftHSM on a read-only disk tells before a login
        only. A refused PIN is told with what the token says of the tries left."""
        token = self.find_token(name)
        secret = bytearray(pin if isinstance(pin, bytearray) else pin.encode())
        try:
            with self.call():
                label = uri.label_of(self.direct.token_info(token.slot.slot_id))
                session = token.open(rw=True, attribute_mapper=MAPPER)
                try:
                    self.direct.login(session, secret)
                except pkcs11.PKCS11Error:
                    session.close()
                    raise
                return session, label
        except VaultError as error:
            if error.reason not in ("pin", "pin-locked"):
                raise
            left = ""
            with suppress(VaultError), self.call():
                left = tries_left(self._named(name).flags)
            refused = VaultError(error.reason, "; ".join(filter(None, (error.detail, left))))
        finally:
            secret[:] = bytes(len(secret))
        raise refused


_libraries: dict[str, _Library] = {}
_libraries_lock = threading.Lock()


@atexit.register
def _close_what_is_open() -> None:
    """NSS's libraries, and never let go of them: python-pkcs11 would call a method of theirs when
    Python has taken the methods away already, and says so on stderr."""
    for library in _libraries.values():
        if library.options and library.lock.acquire(timeout=1):
            library.unload()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(library.lib))


def _forked() -> None:
    """In a child: the parent's sessions are not its own, though NSS would take it at its word."""
    for library in _libraries.values():
        library.call().is_forked = True


os.register_at_fork(after_in_child=_forked)


class Hsm:
    """A PKCS#11 library, opened for this process; `with` or close() gives it back.

    module: the library's path; conf: the file for SOFTHSM2_CONF, where the library is SoftHSM;
    options: what C_Initialize is given, for a library that wants it [`library`].
    Several may be open at once on the same module, conf and options, and share it.
    Raises: VaultError("module-missing" | "unavailable" | "refused": another store is open).
    """

    def __init__(
        self, module: Path | str, conf: Path | str | None = None, options: str = ""
    ) -> None:
        if not Path(module).is_file():
            raise VaultError("module-missing", f"{module} does not exist")
        path = os.path.realpath(module)  # a symbolic link would be initialised a second time
        wanted = os.path.realpath(conf) if conf else None
        with _libraries_lock:
            library = _libraries.get(path)
            if library is None:
                library = _libraries[path] = _Library(path, wanted, options)
            elif (library.conf, library.options) != (wanted, options):
                raise VaultError("refused", "this process has the library open on another store")
            library.users += 1
        self._library: _Library | None = library

    def token(self, name: str, pin: str | bytearray) -> "Token":
        """The token of that name [`uri.Name`], logged in. The PIN is tried once; a bytearray is
        for the caller to wipe.

        Raises: VaultError("token-missing" | "refused": several have this name | "pin" |
        "pin-locked" | "unavailable").
        """
        library = self._opened()
        with library.lock:
            token = library.tokens.get(name) or library.open_by_another_name(name)
            if token is None:
                token = library.tokens[name] = Token(library, name, pin)
            elif not token.is_pin(pin):
                raise VaultError("pin", name)
            return token

    def tokens(self) -> list[Any]:
        """Every token there is, as python-pkcs11 describes it, and no one logged in."""
        library = self._opened()
        with library.call():
            return list(library.lib.get_tokens())

    def _opened(self) -> _Library:
        library = self._library
        if library is None or library.users < 1:
            raise VaultError("unavailable", "closed")
        return library

    def close(self) -> None:
        library, self._library = self._library, None
        if library is None:
            return
        with _libraries_lock, library.lock:
            library.users -= 1
            if not library.users:
                _close(library)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _close(library: _Library) -> None:
    del _libraries[library.path]
    library.tokens.clear()
    library.unload()


def close_library(module: Path | str) -> None:
    """Close whatever this process has open of the library: for the end of a test, which may have
    failed before it closed its own. Each `Hsm` that used it is closed then."""
    with _libraries_lock:
        library = _libraries.get(os.path.realpath(module))
        if library:
            with library.lock:
                library.users = 0  # below that an `Hsm` which is closed later closes nothing more
                _close(library)


class Token:
    """A token that is logged in: the keys of one role. Made by `Hsm.token`.

    name: see `uri.Name`.
    """

    def __init__(self, library: _Library, name: str, pin: str | bytearray) -> None:
        self.call = library.call
        self.direct = library.direct
        self._folder = token_folder(library.conf)
        self._pin = fingerprint(pin)
        with one_attempt(pin, library.path, library.conf or library.options, name):
            self.session, self.label = library.log_in(name, pin)
        self.slot = self.session.token.slot.slot_id
        back_up(self._folder, self.label)

    def reopen(self) -> None:
        """Another session, for one that the token left unusable. That one stays open: it is the
        one that logged in."""
        with self.call():
            self.session = self.session.token.open(rw=True, attribute_mapper=MAPPER)

    def is_pin(self, pin: str | bytearray) -> bool:
        return hmac.compare_digest(self._pin, fingerprint(pin))

    def generate(
        self, label: str, usage: tuple[str, ...] = ("sign",), curve: str = "secp256r1"
    ) -> "TokenKey":
        """Make a key pair that never leaves the token. usage: of "sign", "derive"; curve: of
        CURVES.

        Raises: VaultError("exists" | "full" | "unavailable"); nothing half made is left.
        """
        key_id = label.encode()
        with self.call():
            if self.find(key_id, ObjectClass.PRIVATE_KEY):
                raise VaultError("exists", label)
            check_room(self._folder)
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

    def generate_pair(
        self, public: dict[Attribute, Any], private: dict[Attribute, Any]
    ) -> tuple[Any, Any]:
        """C_GenerateKeyPair on the curve of `public` with exactly these flags, public half first;
        for use within `call`."""
        curve = {Attribute.EC_PARAMS: public[Attribute.EC_PARAMS]}
        parameters = self.session.create_domain_parameters(KeyType.EC, curve, local=True)
        pair: tuple[Any, Any] = parameters.generate_keypair(
            mechanism=Mechanism.EC_KEY_PAIR_GEN,
            capabilities=MechanismFlag(0),  # none but what the templates say
            store=True,
            public_template=public,
            private_template=private,
        )
        return pair

    def key(self, label: str) -> "TokenKey":
        """The key of that label. Raises: VaultError("not-found")."""
        with self.call():
            private, public = self.pair(label)
            curve = _BY_PARAMETERS.get(public[Attribute.EC_PARAMS])
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
        """`self.key(label).sign_digest(digest)`."""
        return self.key(label).sign_digest(digest)

    def find(self, key_id: bytes, kind: ObjectClass) -> list[Any]:
        """The token's objects of that id and class; for use within `call`."""
        wanted = {Attribute.CLASS: kind, Attribute.ID: key_id}
        # A list, never a running search: a search left open blocks the session for every caller.
        found = list(self.session.get_objects(wanted))
        if not found:  # or another process made it, unseen
            reload(self._folder, self.label)
            found = list(self.session.get_objects(wanted))
        return found

    def __repr__(self) -> str:
        return f"Token({self.label!r})"


def templates(
    label: str, usage: tuple[str, ...] = ("sign",)
) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:
    """What both halves of a key pair are made with, public and private: it never leaves its
    token. usage: of "sign", "derive"."""
    common = {Attribute.TOKEN: True, Attribute.ID: label.encode(), Attribute.LABEL: label}
    public = {**common, Attribute.VERIFY: True, Attribute.PRIVATE: False}
    private = {
        **common,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.MODIFIABLE: False,
        Attribute.SIGN: "sign" in usage,
        Attribute.DERIVE: "derive" in usage,
    }
    return public, private


def custody(token: Token, private: Any) -> str:
    """ "L3" when the token says that this key was made in it and can never leave; else ""."""
    kinds = (Attribute.LOCAL, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE)
    with token.call():
        return "L3" if all(private[kind] for kind in kinds) else ""


class TokenKey(ec.EllipticCurvePrivateKey):
    """An EC private key in a token, for certificate and CSR builders. Cannot be exported.

    `point`: the public key, 0x04 | X | Y: 65 bytes on P-256, 133 on P-521.
    """

    def __init__(self, token: Token, label: str, private: Any, point: bytes, curve: Curve) -> None:
        self.label = label
        self.point = point
        self._token = token
        self._private = private
        self._curve = curve
        self._public = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, point)

    def custody(self) -> str:
        """See the function of this name."""
        return custody(self._token, self._private)

    def sign_digest(self, digest: bytes) -> bytes:
        """ECDSA over a finished digest of 32 bytes (64 on P-521): r | s, 64 bytes (132).

        Raises: VaultError("digest-length" | "refused" | "unavailable").
        """
        if len(digest) != self._curve.hash.digest_size:  # SoftHSM signs any length without a word
            raise VaultError("digest-length", str(len(digest)))
        with self._token.call():
            if not hasattr(self._private, "sign"):
                raise VaultError("refused", f"{self.label} is not for signing")
            return bytes(self._private.sign(digest, mechanism=Mechanism.ECDSA))

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """DER signature. Only ECDSA with the curve's hash, the data or `Prehashed`."""
        wanted, own = signature_algorithm.algorithm, self._curve.hash
        digest = bytes(data)
        if isinstance(wanted, type(own)):
            digest = hashlib.new(own.name, digest).digest()
        elif not (isinstance(wanted, Prehashed) and wanted.digest_size == own.digest_size):
            raise UnsupportedAlgorithm(f"this key signs ECDSA with {own.name}")
        signature, half = self.sign_digest(digest), self._curve.size
        return encode_dss_signature(
            int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        )

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def __copy__(self) -> "TokenKey":
        return self

    def __deepcopy__(self, memo: object) -> "TokenKey":
        return self

    def exchange(self, *_: Any) -> NoReturn:
        raise VaultError("refused", "no raw ECDH")

    def private_numbers(self) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise VaultError("refused", "the key stays in its token")

    def __repr__(self) -> str:
        return f"TokenKey({self._token.label!r}, {self.label!r})"
