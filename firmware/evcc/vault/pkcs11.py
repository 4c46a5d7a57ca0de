"""The vault on a PKCS#11 token: which objects it makes, in which order, and what it leaves.

Written on a few backend of PKCS#11 2.40 ("the backend"): `ffi_backend` gives them through ffi on
MicroPython's Unix port, the host through python-pkcs11. How much of a contract key's opening
happens inside of the token is `custody`'s to find out and `opening`'s to do.

The backend: create(template), copy(object, template), generate(public, private),
generate_secret(template), find(template),
attribute(object, type), destroy(object), sign(key, digest), verify(point, digest, signature),
derive(mechanism, key, data, template), digest(mechanism, parts), wrap(mechanism, key, iv, object),
unwrap(mechanism, key, iv, data, template), decrypt_cbc(key, iv, data, into),
ecb(key, is_encryption, block), random(n), check_room(), flush(), reload(), reopen(), close().
A template is a list of (attribute, value) with int, bool or bytes, or a tuple that the backend may
keep; objects are whatever the backend make of them.

Objects are found by CKA_ID, never by label: a damaged object can make every search by label fail.
Where one has made every search by id fail too, the keys are enumerated and looked at one by one.
Nothing is "not there" before the token has been told to look again: another process may have made
it, unseen.
A label says what an object is, the custody of a contract key, and the car that owns it.
"""

import binascii
import time

from . import OWNER, PROVISIONING, VaultError, custody, levels, origin, possession_digest
from .adopted import Adopted
from .cryptoki import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODIFIABLE,
    CKA_NSS_DB,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VERIFY,
    CKK_EC,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from .opening import Opening
from .schemes import SCHEMES

_PROVISIONING_LABEL = b"plugvault-provisioning"  # and " owner", where there is one
_CONTRACT_LABEL = b"plugvault-contract "  # the custody level, and " owner"
_MAKING = 1.0  # seconds: many times as long as a token takes to make a key
_CURVE = SCHEMES["iso2"]  # of the provisioning key, and of what `verify` verifies


def open(  # noqa: A001
    module_path: str,
    token: str,
    pin: str,
    options: str = "",
    minimum_custody: str = "",
    provisioning: str = "",
) -> "TokenVault":
    """The vault in a token, through ffi. Tries the PIN once.

    token: its label, or a URI [`uri.Name`]; options: what C_Initialize is given, for a library
    that wants it (NSS); minimum_custody: of `levels.LEVELS`, or "" to take what the token can do;
    provisioning: the URI of a key that is adopted [`adopted`], or "".
    Raises: VaultError("module-missing" | "token-missing" | "pin" | "pin-locked" | "custody" |
    "refused" | "unavailable").
    """
    from .ffi_backend import FfiBackend  # needs ffi, which only some interpreters have

    adopted = Adopted(provisioning) if provisioning else None
    vault = TokenVault(FfiBackend(module_path, token, pin, options), minimum_custody, adopted)
    survey_custody(vault)
    return vault


def survey_custody(vault: "TokenVault") -> None:
    """Try with throw-away keys what the token can do. At the start, for the trial takes longer
    than an installation. A token that fails now is tried again at the first installation."""
    try:
        vault._survey()
    except VaultError:
        pass


def custody_by_scheme(vault: "TokenVault") -> dict:
    """{scheme: (level, why)}: the custody this vault gives a contract key, and what the next level
    lacks. Found out with throw-away keys at the first time."""
    return {name: found[:2] for name, found in vault._survey().items()}


def for_owner(vault: "TokenVault", owner: bytes) -> "TokenVault":
    """The keys of another owner in the same token. Only one of the two is to be closed."""
    other = _beside(vault, vault._adopted)
    other.claim(owner)
    return other


def with_adopted_key(vault: "TokenVault", name: str) -> "TokenVault":
    """The same token, its provisioning key the one that the URI `name` names. Only one of the two
    is to be closed. Raises: VaultError("not-found" | "refused" | "custody")."""
    other = _beside(vault, Adopted(name))
    other.public(PROVISIONING)
    return other


def _beside(vault: "TokenVault", adopted) -> "TokenVault":
    other = TokenVault(vault._backend)
    other._adopted, other._minimum = adopted, vault._minimum
    other._survey_result, other._attesting = vault._survey_result, vault._attesting
    return other


def key_templates(key: bytes, label: bytes, point: bytes) -> tuple:
    """What the two halves of a key from outside are created with, public and private, but the
    private key's value: it can do what a provisioning key can, and no more."""
    common = [
        (CKA_TOKEN, True),
        (CKA_KEY_TYPE, CKK_EC),
        (CKA_EC_PARAMS, _CURVE.ec_params),
        (CKA_ID, key),
        (CKA_LABEL, label),
    ]
    public = common + [(CKA_CLASS, CKO_PUBLIC_KEY), (CKA_EC_POINT, _octet_string(point))]
    public += [(CKA_PRIVATE, False), (CKA_VERIFY, True)]
    return public, common + [(CKA_CLASS, CKO_PRIVATE_KEY)] + _private_flags(derive=True)


def check_envelope(vault: "TokenVault", *envelope) -> None:
    """What `open_contract_key` refuses before it uses a private key. envelope: its arguments.

    Raises: VaultError("scheme" | "point" | "wrapped-length" | "not-found").
    """
    vault._checked(*envelope)


def is_working(vault: "TokenVault") -> bool:
    """Whether the token opens and signs with throw-away keys. If not, a key that fails may be as
    whole as ever."""
    try:
        way = vault._survey()[_CURVE.name]
        return bool(way[2]) and custody.works(vault._backend, _CURVE, way)
    except VaultError:
        return False


def owners(vault: "TokenVault") -> list:
    """Who has keys in the token; b"" for those that were made without an owner."""
    backend, found = vault._backend, set()
    backend.reload()
    for kind in (CKO_PRIVATE_KEY, CKO_PUBLIC_KEY):
        for one in vault._every(kind):
            try:
                found.add(_owner(backend.attribute(one, CKA_LABEL)))
            except VaultError:
                pass  # it is torn
    return sorted(found - {None})


class TokenVault:
    """The vault interface (see the package) on `backend`. adopted: `adopted.Adopted`, or None."""

    def __init__(self, backend, minimum_custody="", adopted=None) -> None:
        self._backend = backend
        self._adopted = adopted
        self._minimum = ""
        self._owner = b""
        self._poisoned = False  # searches by id do not work any more
        self._key_cache = {}  # key id -> (private object, point, public object)
        self._survey_result = None  # of `custody.survey`
        self._attesting = None  # of `origin.attesting`
        try:
            self._require(minimum_custody)
            if adopted:
                self.public(PROVISIONING)
        except VaultError:
            self.close()
            raise

    def claim(self, owner: bytes) -> None:
        if len(owner) not in (0, OWNER):
            raise VaultError("refused", "an owner has %d bytes, or none" % OWNER)
        if self._adopted:
            self._adopted.claim(owner)
        self._owner = owner
        self._key_cache = {}
        self._require_origin()

    def generate_provisioning_key(self) -> bytes:
        if self._adopted:
            raise VaultError("exists", "the configuration names the provisioning key")
        if self._find(CKO_PRIVATE_KEY, PROVISIONING):
            raise VaultError("exists", "the token has a provisioning key")
        self._backend.check_room()
        common = [
            (CKA_TOKEN, True),
            (CKA_ID, self._token_id(PROVISIONING)),
            (CKA_LABEL, _label(_PROVISIONING_LABEL, self._owner)),
        ]
        public = common + [(CKA_PRIVATE, False), (CKA_VERIFY, True)]
        public += [(CKA_EC_PARAMS, _CURVE.ec_params)]
        # A token makes the public half first: alone, it is left of an attempt that was cut off,
        # and would be taken for this key's.
        self._destroy(PROVISIONING)
        with _UndoUnlessDone(self, PROVISIONING) as undo:
            self._backend.generate(public, common + _private_flags(derive=True))
            point = self.public(PROVISIONING)
            self._backend.flush()
            undo.done = True
        return point

    def public(self, key: bytes) -> bytes:
        return self._pair(key)[1]

    def sign(self, key: bytes, digest: bytes) -> bytes:
        if len(digest) != 32:  # a token may sign any length without a word
            raise VaultError("digest-length", "%d bytes" % len(digest))
        try:
            return self._backend.sign(self._pair(key)[0], digest)
        except VaultError:
            self._key_cache.pop(key, None)  # the object may be gone
            raise

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        if len(digest) != 32:
            raise VaultError("digest-length", "%d bytes" % len(digest))
        if len(signature) != 64 or not _CURVE.on_curve(point):
            return False
        return self._backend.verify(point, digest, signature)

    def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public, key=b"") -> bytes:
        row = self._checked(scheme, dh_point, wrapped, aad, expected_public)
        if key and (len(key) != 16 or self._find(CKO_PRIVATE_KEY, key)):
            raise VaultError("exists", "a key's id has 16 bytes and is new")
        way = self._survey()[scheme]
        level, why, recipe, is_nss = way
        if not recipe:
            raise VaultError("custody", why)
        backend = self._backend
        backend.check_room()
        key = key or backend.random(16)
        common = [
            (CKA_TOKEN, True),
            (CKA_ID, key),
            (CKA_LABEL, _label(_CONTRACT_LABEL + level.encode(), self._owner)),
        ]
        public = common + [(CKA_CLASS, CKO_PUBLIC_KEY), (CKA_KEY_TYPE, CKK_EC)]
        public += [(CKA_PRIVATE, False), (CKA_VERIFY, True), (CKA_EC_PARAMS, row.ec_params)]
        private = common + _private_flags(derive=False)
        if is_nss:
            private.append((CKA_NSS_DB, expected_public))
        with _UndoUnlessDone(self, key) as undo:
            # The public half first: alone it is worth nothing to anybody.
            half = backend.create(public + [(CKA_EC_POINT, _octet_string(expected_public))])
            try:
                static = self._pair(PROVISIONING)[0]
                opening = Opening(backend, row, static, dh_point, wrapped, private)
                made = self._made(opening, row, way)
            except VaultError:
                self._key_cache.pop(PROVISIONING, None)
                raise
            self._key_cache[key] = (made, expected_public, half)
            if not self._proves(key, expected_public):
                raise VaultError("key-mismatch")
            backend.flush()
            undo.done = True
        return key

    def delete(self, key: bytes) -> None:
        if self._adopted and key == PROVISIONING:
            raise VaultError("refused", "an adopted key is not the car's to destroy")
        known = self._key_cache.pop(key, None)
        if known:
            try:
                self._backend.destroy(known[0])
                self._backend.destroy(known[2])
                return
            except VaultError:
                pass  # another has done so, or half of it: look for what is there
        if not self._destroy(key):
            raise VaultError("not-found", "no such key")

    def keys(self) -> list:
        self._backend.reload()
        self._key_cache.pop(PROVISIONING, None)  # the one id that a key can have anew
        halves = {}
        for kind in (CKO_PRIVATE_KEY, CKO_PUBLIC_KEY):
            for found in self._every(kind):
                key = self._id(found)
                if key is not None:
                    halves.setdefault(key, []).append(kind)
        if self._adopted:
            halves[PROVISIONING] = (CKO_PRIVATE_KEY, CKO_PUBLIC_KEY)
        return [(key, self._point(key, kinds)) for key, kinds in halves.items()]

    def custody(self, key: bytes) -> str:
        private = self._pair(key)[0]
        if key == PROVISIONING:
            return self._origin(private)
        if origin.can_leave(self._backend, private):
            return levels.EXTRACTABLE
        label = self._backend.attribute(private, CKA_LABEL)
        said = label[len(_CONTRACT_LABEL) :].split(b" ")[0]
        named = [level for level in levels.LEVELS if said == level.encode()]
        # Anybody can write a label: what this token cannot do, it has not done.
        able = [row[0] for row in self._survey().values()]
        able = [level for level in levels.LEVELS if level in able]
        return levels.lower(named[0], able[-1]) if named and able else levels.IMPORTED

    def random(self, n: int) -> bytes:
        if not 1 <= n <= 256:
            raise VaultError("refused", "1 to 256 bytes")
        return self._backend.random(n)

    def close(self) -> None:
        self._key_cache = {}
        self._backend.close()

    def _checked(self, scheme, dh_point, wrapped, aad, expected_public):
        """The row of the scheme, whose envelope looks as it must."""
        row = SCHEMES.get(scheme)
        if row is None or (aad and not row.has_aad):
            raise VaultError("scheme", str(scheme))
        # The caller has checked all this; here it is checked for whoever backend next.
        for point in (dh_point, expected_public):
            if len(point) != row.point_length or not row.on_curve(point):
                raise VaultError("point", "not an uncompressed point of the curve")
        if dh_point == self.public(PROVISIONING):
            raise VaultError("point", "our own provisioning key")
        if len(wrapped) != row.wrapped_length:
            raise VaultError("wrapped-length", "%d bytes" % len(wrapped))
        return row

    def _made(self, opening, row, way):
        """The object of the contract key."""
        recipe = way[2]
        try:
            return opening.run(recipe)
        except VaultError:
            # Only the token sees the scalar now, and what it says of a bad one is its own affair.
            if not opening.last or not _is_of_the_key(
                lambda: custody.works(self._backend, row, way), lambda: opening.run(recipe)
            ):
                raise
        raise VaultError("key-mismatch")

    def _proves(self, key, point) -> bool:
        """Proof of possession, for CBC has no integrity [V2G2-823]. Needs no plaintext."""
        nonce = self._backend.random(32)
        digest = possession_digest(nonce)
        try:
            signature = self.sign(key, digest)
        except VaultError:  # so does a token whose scalar is 0, or not below n
            if not _is_of_the_key(
                lambda: self.sign(PROVISIONING, digest), lambda: self.sign(key, digest)
            ):
                raise
            return False
        return self._backend.verify(point, digest, signature)

    def _survey(self) -> dict:
        if self._survey_result is None:
            self._survey_result = custody.survey(self._backend)
        return self._survey_result

    def _require(self, minimum) -> None:
        if not minimum:
            return
        if minimum not in levels.LEVELS:
            raise VaultError("refused", "custody is one of " + ", ".join(levels.LEVELS))
        for name, (level, why, _, _) in self._survey().items():
            if not custody.at_least(level, minimum):
                text = "%s is asked for, this token gives %s for %s: %s"
                raise VaultError("custody", text % (minimum, level or "nothing", name, why))
        self._minimum = minimum
        self._require_origin()

    def _require_origin(self) -> None:
        """A provisioning key from outside opens every envelope to whoever has it too, whatever the
        token can do. One that is not there yet will be made here."""
        if not self._minimum:
            return
        try:
            self._pair(PROVISIONING)
        except VaultError as error:
            if error.reason != "not-found":
                raise

    def _origin(self, private) -> str:
        if self._attesting is None:
            self._attesting = origin.attesting(self._backend, _CURVE)
        return origin.of_key(self._backend, private, self._attesting)

    def _checked_origin(self, private) -> None:
        if self._minimum:
            found = self._origin(private)
            if found in (levels.IMPORTED, levels.EXTRACTABLE):
                text = "%s is asked for, the provisioning key is %s"
                raise VaultError("custody", text % (self._minimum, found))

    def _pair(self, key: bytes) -> tuple:
        """(private object, point, public object) of a key of which both halves are there."""
        known = self._key_cache.get(key)
        if known is None and key == PROVISIONING and self._adopted:
            known = self._adopted.pair(self._backend)
        elif known is None:
            private = self._find(CKO_PRIVATE_KEY, key)
            public = self._find(CKO_PUBLIC_KEY, key)
            if not (private and public):
                raise VaultError("not-found", "no such key")
            # A token gives the point bare or as a DER octet string: its end is the same.
            point = self._backend.attribute(public[0], CKA_EC_POINT)[-_CURVE.point_length :]
            known = (private[0], point, public[0])
        if key not in self._key_cache:
            if key == PROVISIONING:
                self._checked_origin(known[0])
            self._key_cache[key] = known
        return known

    def _find(self, kind: int, key: bytes) -> list:
        if key and key != PROVISIONING and len(key) != 16:
            return []
        found = self._seen(kind, key)
        if not found:
            self._backend.reload()
            found = self._seen(kind, key)
        return found

    def _seen(self, kind: int, key: bytes) -> list:
        """What the token finds by itself."""
        found = None
        if key and not self._poisoned:
            try:
                found = self._backend.find([(CKA_CLASS, kind), (CKA_ID, self._token_id(key))])
            except VaultError:
                # One damaged object can make every search by id fail, and leave the session in
                # the middle of that search. What is looked for may be as whole as ever.
                self._backend.reopen()
                self._poisoned = True
                self._key_cache = {}
        if found is None:
            found = self._every(kind)
        return [one for one in found if self._id(one) == key]

    def _every(self, kind: int) -> list:
        # By what no object is without for long, and no damage can hide from a token's search.
        return self._backend.find([(CKA_CLASS, kind), (CKA_KEY_TYPE, CKK_EC)])

    def _token_id(self, key: bytes) -> bytes:
        """CKA_ID of a key: each owner has a provisioning key of its own."""
        return key + self._owner if key == PROVISIONING else key

    def _id(self, found):
        """The id of an object of this owner; b"" for one that has neither name nor value: what a
        creation leaves that was cut off. None: it is another's, or cannot even be read."""
        try:
            key = self._backend.attribute(found, CKA_ID)
            label = self._backend.attribute(found, CKA_LABEL)
            if _owner(label) == self._owner:
                if key != self._token_id(PROVISIONING):
                    return key
                return None if self._adopted else PROVISIONING
            if not (key or label or self._backend.attribute(found, CKA_EC_PARAMS)):
                return key
        except VaultError:
            pass
        return None

    def _point(self, key: bytes, kinds: list) -> bytes:
        """For `keys`: b"" where the key is not whole."""
        try:
            return self.public(key) if len(kinds) > 1 else b""
        except VaultError:
            return b""

    def _destroy(self, key: bytes) -> int:
        """Every object of the key, the private half first; how many there were."""
        found = self._find(CKO_PRIVATE_KEY, key) + self._find(CKO_PUBLIC_KEY, key)
        if found and not key:
            # Another program's object has no name either while it is being made.
            time.sleep(_MAKING)
            found = [one for one in found if self._id(one) == key]
        for one in found:
            self._backend.destroy(one)
        return len(found)


class _UndoUnlessDone:
    """All or nothing: on any way out but `done`, every object of the key is destroyed."""

    def __init__(self, vault: TokenVault, key: bytes) -> None:
        self._vault = vault
        self._key = key
        self.done = False

    def __enter__(self) -> "_UndoUnlessDone":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.done:
            return
        self._vault._key_cache.pop(self._key, None)
        try:
            self._vault._destroy(self._key)
        except VaultError:
            pass  # the first failure is the one to report; `keys` shows what was left


def _is_of_the_key(control, again) -> bool:
    """Whether the key is why something has failed, and not the token: it fails `again`, while the
    same with a key that is known, `control`, is done. The reasons that tokens give do not say."""
    try:
        if not control():
            return False
    except VaultError:
        return False
    try:
        again()
        return False
    except VaultError as error:
        return error.reason != "not-found"  # then another process has removed it


def _private_flags(derive: bool) -> list:
    """A private key that only does what it is for, and cannot be made to do more later."""
    return [
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, True),
        (CKA_EXTRACTABLE, False),
        (CKA_MODIFIABLE, False),
        (CKA_SIGN, True),
        (CKA_DERIVE, derive),
        (CKA_DECRYPT, False),  # what is not forbidden a token may allow
        (CKA_UNWRAP, False),
        (CKA_SIGN_RECOVER, False),
    ]


def _label(kind: bytes, owner: bytes) -> bytes:
    return kind + b" " + binascii.hexlify(owner) if owner else kind


def _owner(label: bytes):
    """Whose an object with this label is; None: no vault's."""
    for kind, words in ((_CONTRACT_LABEL, 2), (_PROVISIONING_LABEL, 1)):
        if label.startswith(kind):
            owner = label.split(b" ")[words:] or [b""]
            try:
                owner = binascii.unhexlify(owner[0]) if len(owner) == 1 else None
            except ValueError:
                return None
            return owner if owner is None or len(owner) in (0, OWNER) else None
    return None


def session_public_key(point: bytes) -> list:
    """The template of a public key that goes with the session, to verify with."""
    return [
        (CKA_CLASS, CKO_PUBLIC_KEY),
        (CKA_KEY_TYPE, CKK_EC),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, False),
        (CKA_VERIFY, True),
        (CKA_EC_PARAMS, _CURVE.ec_params),
        (CKA_EC_POINT, _octet_string(point)),
    ]


def _octet_string(point: bytes) -> bytes:
    """CKA_EC_POINT as PKCS#11 2.40 wants it: the point in a DER octet string."""
    length = len(point)
    return (b"\x04" if length < 128 else b"\x04\x81") + bytes((length,)) + bytes(point)
