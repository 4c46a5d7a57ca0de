"""The vault on a PKCS#11 token: the objects that it makes, their order, and their removal.

Written on a `CryptokiBackend` [`backend`]. `custody` finds out how much of the opening of a
contract key can happen inside the token; `opening` carries it out.
"""

from . import OWNER, PROVISIONING, Vault, VaultError, custody, labels, levels, origin
from .adopted import Adopted
from .cryptoki import (
    CKA_CLASS,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_PRIVATE,
    CKA_TOKEN,
    CKA_VERIFY,
    CKK_EC,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    octet_string,
    private_flags,
)
from .key_objects import CURVE, KINDS, KeyObjects, list_keys
from .opening import Opening
from .possession import possession_digest
from .schemes import SCHEMES


def open(  # noqa: A001
    module_path: str,
    token: str,
    pin: str,
    options: str = "",
    minimum_custody: str = "",
    provisioning: str = "",
) -> "TokenVault":
    """The vault in a token, through ffi. Tries the PIN once.

    token: its label, or a URI [`uri.Name`]; options: the string for C_Initialize, which only NSS
    needs; minimum_custody: of `levels.LEVELS`, or "" to accept every level; provisioning: the URI
    of a key that is adopted [`adopted`], or "".
    Raises: VaultError("module-missing" | "token-missing" | "pin" | "pin-locked" | "custody" |
    "refused" | "unavailable").
    """
    from .ffi_backend import FfiBackend  # needs ffi, which only some interpreters have

    adopted = Adopted(provisioning) if provisioning else None
    vault = TokenVault(FfiBackend(module_path, token, pin, options), minimum_custody, adopted)
    survey_custody(vault)
    return vault


def survey_custody(vault: "TokenVault") -> None:
    """Find the token's custody by throw-away keys, before the first installation: the trial takes
    longer than that. A token that fails now is tried again then."""
    try:
        vault._survey()
    except VaultError:
        pass


def custody_by_scheme(vault: "TokenVault") -> dict:
    """{scheme: (level, missing)}: the custody that this vault gives a contract key, and the step
    that the next level lacks. The first call tries it with throw-away keys. Raises: VaultError."""
    methods = vault._survey()
    return {name: (method.level, method.missing) for name, method in methods.items()}


def for_owner(vault: "TokenVault", owner: bytes) -> "TokenVault":
    """The vault of another owner in the same token. owner: 8 bytes, or b"". Close only one of the
    two vaults. Raises: VaultError("refused" | "custody")."""
    sibling = _share_token(vault, vault._adopted)
    sibling.claim(owner)
    return sibling


def with_adopted_key(vault: "TokenVault", name: str) -> "TokenVault":
    """The same token with the provisioning key that the URI `name` names. Close only one of the
    two vaults. Raises: VaultError("not-found" | "refused" | "custody")."""
    sibling = _share_token(vault, Adopted(name))
    sibling.public(PROVISIONING)
    return sibling


def _share_token(vault: "TokenVault", adopted) -> "TokenVault":
    sibling = TokenVault(vault._backend)
    sibling._adopted, sibling._minimum = adopted, vault._minimum
    sibling._survey_result, sibling._attesting = vault._survey_result, vault._attesting
    return sibling


def check_envelope(vault: "TokenVault", *envelope) -> None:
    """The checks of `open_contract_key` before it uses a private key. envelope: its arguments.

    Raises: VaultError("scheme" | "point" | "wrapped-length" | "not-found").
    """
    vault._check_envelope(*envelope)


def is_working(vault: "TokenVault") -> bool:
    """Whether the token opens and signs with throw-away keys. If not, a failing key may be
    undamaged."""
    try:
        method = vault._survey()[CURVE.name]
        return bool(method.recipe) and custody.works(vault._backend, CURVE, method)
    except VaultError:
        return False


def owners(vault: "TokenVault") -> list:
    """The owners of keys in the token, sorted; b"" for keys made without an owner."""
    backend, names = vault._backend, set()
    backend.reload()
    for kind in KINDS:
        for handle in list_keys(backend, kind):
            try:
                names.add(labels.owner_of(backend.attribute(handle, CKA_LABEL)))
            except VaultError:
                pass  # a torn object
    return sorted(names - {None})


class TokenVault(KeyObjects, Vault):
    """The vault interface on a backend. adopted: `adopted.Adopted`, or None."""

    def __init__(self, backend, minimum_custody="", adopted=None) -> None:
        KeyObjects.__init__(self, backend, adopted)
        self._minimum = ""
        self._key_cache = {}  # key id -> (private object, point, public object)
        self._survey_result = None  # of `custody.survey`
        self._attesting = None  # of `origin.attesting`
        try:
            self._require_custody(minimum_custody)
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
        self._forget_handles()
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
            (CKA_LABEL, labels.provisioning_key(self._owner)),
        ]
        public = common + [(CKA_PRIVATE, False), (CKA_VERIFY, True)]
        public += [(CKA_EC_PARAMS, CURVE.ec_params)]
        # A token makes the public half first. One that an interrupted attempt has left would be
        # taken for the new key's.
        self._destroy_objects(PROVISIONING)
        with _Rollback(self, PROVISIONING) as rollback:
            self._backend.generate(public, common + private_flags(derive=True))
            point = self.public(PROVISIONING)
            self._backend.flush()
            rollback.cancel()
        return point

    def public(self, key: bytes) -> bytes:
        return self._pair(key)[1]

    def sign(self, key: bytes, digest: bytes) -> bytes:
        if len(digest) != 32:  # a token may sign any length without an error
            raise VaultError("digest-length", "%d bytes" % len(digest))
        try:
            return self._backend.sign(self._pair(key)[0], digest)
        except VaultError:
            self._key_cache.pop(key, None)  # the object may be gone
            raise

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        if len(digest) != 32:
            raise VaultError("digest-length", "%d bytes" % len(digest))
        if len(signature) != 64 or not CURVE.on_curve(point):
            return False
        return self._backend.verify(point, digest, signature)

    def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public, key=b"") -> bytes:
        row = self._check_envelope(scheme, dh_point, wrapped, aad, expected_public)
        if key and (len(key) != 16 or self._is_taken(key)):
            raise VaultError("exists", "a key's id has 16 bytes and is new")
        method = self._survey()[scheme]
        if not method.recipe:
            raise VaultError("custody", method.missing)
        backend = self._backend
        backend.check_room()
        key = key or backend.random(16)
        public, private = self._contract_templates(row, method, key, expected_public)
        with _Rollback(self, key) as rollback:
            # The public half first: without the private half it is of no use.
            public_object = backend.create(public)
            try:
                provisioning = self._pair(PROVISIONING)[0]
                copied = method.dialect.copied
                opening = Opening(backend, row, provisioning, dh_point, wrapped, private, copied)
                private_object = self._run(opening, row, method)
            except VaultError:
                self._key_cache.pop(PROVISIONING, None)
                raise
            self._key_cache[key] = (private_object, expected_public, public_object)
            if not self._proves_possession(key, expected_public):
                raise VaultError("key-mismatch")
            backend.flush()
            rollback.cancel()
        return key

    def delete(self, key: bytes) -> None:
        if self._adopted and key == PROVISIONING:
            raise VaultError("refused", "an adopted key is not the car's to destroy")
        pair = self._key_cache.pop(key, None)
        if pair:
            try:
                self._backend.destroy(pair[0])
                self._backend.destroy(pair[2])
                return
            except VaultError:
                pass  # another process has destroyed one half or both
        if not self._destroy_objects(key):
            raise VaultError("not-found", "no such key")

    def keys(self) -> list:
        self._backend.reload()
        self._key_cache.pop(PROVISIONING, None)  # the only id that a new key can reuse
        halves = {}
        for kind in KINDS:
            for handle in list_keys(self._backend, kind):
                key = self._key_id(handle)
                if key is not None:
                    halves.setdefault(key, []).append(kind)
        if self._adopted:
            halves[PROVISIONING] = KINDS
        return [(key, self._point_or_nothing(key, kinds)) for key, kinds in halves.items()]

    def custody(self, key: bytes) -> str:
        private = self._pair(key)[0]
        if key == PROVISIONING:
            return self._origin(private)
        if origin.can_leave(self._backend, private):
            return levels.EXTRACTABLE
        level = labels.level_of(self._backend.attribute(private, CKA_LABEL))
        # Any program can write a label, so the level is at most the one that the token can reach.
        reached = [method.level for method in self._survey().values()]
        reached = [name for name in levels.LEVELS if name in reached]
        return levels.lower(level, reached[-1]) if level and reached else levels.IMPORTED

    def random(self, n: int) -> bytes:
        if not 1 <= n <= 256:
            raise VaultError("refused", "1 to 256 bytes")
        return self._backend.random(n)

    def close(self) -> None:
        self._forget_handles()
        self._backend.close()

    def _check_envelope(self, scheme, dh_point, wrapped, aad, expected_public):
        """The row of the scheme. The vault checks what its caller has checked already: the next
        caller may not."""
        row = SCHEMES.get(scheme)
        if row is None or (aad and not row.has_aad):
            raise VaultError("scheme", str(scheme))
        for point in (dh_point, expected_public):
            if len(point) != row.point_length or not row.on_curve(point):
                raise VaultError("point", "not an uncompressed point of the curve")
        if dh_point == self.public(PROVISIONING):
            raise VaultError("point", "our own provisioning key")
        if len(wrapped) != row.wrapped_length:
            raise VaultError("wrapped-length", "%d bytes" % len(wrapped))
        return row

    def _contract_templates(self, row, method, key, point) -> tuple:
        """(public, private) for a contract key."""
        common = [
            (CKA_TOKEN, True),
            (CKA_ID, key),
            (CKA_LABEL, labels.contract_key(method.level, self._owner)),
        ]
        public = common + [(CKA_CLASS, CKO_PUBLIC_KEY), (CKA_KEY_TYPE, CKK_EC)]
        public += [(CKA_PRIVATE, False), (CKA_VERIFY, True), (CKA_EC_PARAMS, row.ec_params)]
        public += [(CKA_EC_POINT, octet_string(point))]
        return public, common + private_flags(derive=False) + method.dialect.attributes(point)

    def _run(self, opening, row, method):
        """The object of the contract key."""
        try:
            return opening.run(method.recipe)
        except VaultError:
            # Only the token has seen the scalar, and its error codes for a bad one differ.
            if not opening.makes_key or not _key_is_the_cause(
                lambda: custody.works(self._backend, row, method),
                lambda: opening.run(method.recipe),
            ):
                raise
        raise VaultError("key-mismatch")

    def _proves_possession(self, key, point) -> bool:
        """Whether the key signs for its certificate: CBC has no integrity [V2G2-823]."""
        digest = possession_digest(self._backend.random(32))
        try:
            signature = self.sign(key, digest)
        except VaultError:  # raised also by a token whose scalar is 0, or not below n
            if not _key_is_the_cause(
                lambda: self.sign(PROVISIONING, digest), lambda: self.sign(key, digest)
            ):
                raise
            return False
        return self._backend.verify(point, digest, signature)

    def _survey(self) -> dict:
        if self._survey_result is None:
            self._survey_result = custody.survey(self._backend)
        return self._survey_result

    def _require_custody(self, minimum) -> None:
        if not minimum:
            return
        if minimum not in levels.LEVELS:
            raise VaultError("refused", "custody is one of " + ", ".join(levels.LEVELS))
        for name, method in self._survey().items():
            if not custody.at_least(method.level, minimum):
                text = "%s is asked for, this token gives %s for %s: %s"
                level = method.level or "nothing"
                raise VaultError("custody", text % (minimum, level, name, method.missing))
        self._minimum = minimum
        self._require_origin()

    def _require_origin(self) -> None:
        """Refuse a provisioning key from outside: its former holder can open every envelope, at
        every level of custody. A missing one will be made in the token."""
        if not self._minimum:
            return
        try:
            self._pair(PROVISIONING)
        except VaultError as error:
            if error.reason != "not-found":
                raise

    def _origin(self, private) -> str:
        if self._attesting is None:
            self._attesting = origin.attesting(self._backend, CURVE)
        return origin.of_key(self._backend, private, self._attesting)

    def _check_origin(self, private) -> None:
        if self._minimum:
            word = self._origin(private)
            if word in (levels.IMPORTED, levels.EXTRACTABLE):
                text = "%s is asked for, the provisioning key is %s"
                raise VaultError("custody", text % (self._minimum, word))

    def _pair(self, key: bytes) -> tuple:
        """(private object, point, public object) of a key that has both halves."""
        pair = self._key_cache.get(key)
        if pair is None:
            pair = self._load_pair(key)
            if key == PROVISIONING:
                self._check_origin(pair[0])
            self._key_cache[key] = pair
        return pair

    def _forget_handles(self) -> None:
        self._key_cache = {}

    def _point_or_nothing(self, key: bytes, kinds) -> bytes:
        """For `keys`: b"" where half of the key is missing."""
        try:
            return self.public(key) if len(kinds) > 1 else b""
        except VaultError:
            return b""


class _Rollback:
    """Destroys every object of a key at the end of its block, unless it is cancelled."""

    def __init__(self, vault: TokenVault, key: bytes) -> None:
        self._vault = vault
        self._key = key
        self._is_cancelled = False

    def cancel(self) -> None:
        self._is_cancelled = True

    def __enter__(self) -> "_Rollback":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._is_cancelled:
            return
        self._vault._key_cache.pop(self._key, None)
        try:
            self._vault._destroy_objects(self._key)
        except VaultError:
            pass  # the first failure is the one to report; `keys` shows what was left


def _key_is_the_cause(control, retry) -> bool:
    """Whether something failed because of the key and not of the token: it fails again, while the
    same with a good key succeeds. The reasons that tokens give do not tell the two apart."""
    try:
        if not control():
            return False
    except VaultError:
        return False
    try:
        retry()
        return False
    except VaultError as error:
        return error.reason != "not-found"  # then another process has removed it
