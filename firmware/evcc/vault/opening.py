"""One envelope on its way into a token: the ways there are, and nothing left of them.

ISO 15118-2 [V2G2-814..823]: Z by ECDH; K, the first bytes of the hash of counter | Z | OtherInfo;
the scalar by AES-CBC without padding. Tokens import a scalar that they unwrap only inside of a
PKCS#8 structure. So `rewrap` unwraps the scalar as a mere secret, puts the structure's beginning
before it, and moves the whole on under W, a key for this once. `splice` makes the ciphertext of
the structure from the scalar's: of the blocks before, and of the padding, only K has to be known.

`rewrap` and `splice` cannot see whether the scalar is below n: some tokens take n + d for d, which
is the same key, others make a key that signs nothing. Which key it is has not been proved by any
of them: see `pkcs11`.
"""

from . import VaultError
from .cryptoki import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_EC_PARAMS,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_KEY_TYPE,
    CKA_NSS_DB,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKA_VERIFY,
    CKA_WRAP,
    CKK_AES,
    CKK_EC,
    CKK_GENERIC_SECRET,
    CKM_AES_CBC,
    CKM_AES_CBC_PAD,
    CKM_CONCATENATE_BASE_AND_DATA,
    CKM_CONCATENATE_DATA_AND_BASE,
    CKM_ECDH1_DERIVE,
    CKO_PRIVATE_KEY,
    CKO_SECRET_KEY,
    in_two_steps,
)

COUNTER = b"\x00\x00\x00\x01"
USES = (
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_SIGN,
    CKA_VERIFY,
    CKA_DERIVE,
)
_BLOCK = 16  # bytes, of AES


class Opening:
    """private: the object of our static key; wrapped: IV | ciphertext; template: of the contract
    key, without class and kind.

    `step`: what is being done, in PKCS#11's words; `last`: whether that makes the key.
    """

    def __init__(self, backend, row, private, dh_point, wrapped, template) -> None:
        self._backend = backend
        self._row = row
        self._private = private
        self._dh_point = dh_point
        self._iv, self._ciphertext = wrapped[:_BLOCK], wrapped[_BLOCK:]
        self._template = template + [(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_KEY_TYPE, CKK_EC)]
        self._objects = []
        self._secrets = []
        self.step = ""
        self.last = False

    def run(self, recipe, inspect=None):
        """The object of the contract key, made by `recipe`, of this module. Can be run again.

        inspect(objects): called while what was made on the way is there, and the key.
        Raises VaultError; "key-mismatch" for a scalar that is seen to be none. Where `last` is
        true then, it was the token that did not make a key of the scalar, or could not.
        """
        self._objects, self._secrets, self.last = [], [], False
        try:
            key = recipe(self)
            self.last = False
            if inspect:
                inspect(self._objects + [key])
            return key
        finally:
            self._leave_nothing()

    def rewrap(self):
        backend, row = self._backend, self._row
        size = len(row.order)
        z = self._z()
        self.step = "CONCATENATE_DATA_AND_BASE"
        joined = self._derive(
            CKM_CONCATENATE_DATA_AND_BASE, z, COUNTER, secret_template(len(COUNTER) + size)
        )
        self.step = "CONCATENATE_BASE_AND_DATA"
        length = len(COUNTER) + size + len(row.other_info)
        joined = self._derive(
            CKM_CONCATENATE_BASE_AND_DATA, joined, row.other_info, secret_template(length)
        )
        self.step = "deriving a key by a hash of a secret"
        template = secret_template(row.key_length, CKK_AES, (CKA_UNWRAP,))
        k = self._derive(row.hash_derivation, joined, None, template)
        self.step = "unwrapping a secret by AES_CBC"
        # It must be possible to wrap them, yet never to read them.
        template = secret_template(size, extractable=True)
        scalar = self._keep(backend.unwrap(CKM_AES_CBC, k, self._iv, self._ciphertext, template))
        self.step = "CONCATENATE_DATA_AND_BASE"
        start = _pkcs8(row)
        structure = self._derive(
            CKM_CONCATENATE_DATA_AND_BASE,
            scalar,
            start,
            secret_template(len(start) + size, uses=(), extractable=True),
        )
        self.step = "a wrapping key of the token"
        template = secret_template(_BLOCK, CKK_AES, (CKA_WRAP, CKA_UNWRAP))
        w = self._keep(backend.generate_secret(template))
        self.step = "wrapping a secret by AES_CBC_PAD"
        iv = backend.random(_BLOCK)
        return self._unwrap(w, iv, backend.wrap(CKM_AES_CBC_PAD, w, iv, structure))

    def splice(self):
        backend, row = self._backend, self._row
        key = self._content_key()
        self.step = "importing an unwrapping key"
        template = list(secret_template(len(key), CKK_AES, (CKA_UNWRAP,))[1:])
        template.append((CKA_VALUE, key))
        k = self._keep(backend.create(template))
        start = _pkcs8(row, _BLOCK)
        blocks = [self._iv]
        for at in range(len(start) - _BLOCK, -1, -_BLOCK):
            opened = backend.ecb(key, False, blocks[0])
            blocks.insert(0, xor(opened, start[at : at + _BLOCK]))
        padding = backend.ecb(
            key, True, xor(self._ciphertext[-_BLOCK:], bytes((_BLOCK,)) * _BLOCK)
        )
        return self._unwrap(k, blocks[0], b"".join(blocks[1:]) + self._ciphertext + padding)

    def import_hashed(self):
        return self._import(self._content_key())

    def import_read(self):
        row = self._row
        self.step = "reading the secret of ECDH1_DERIVE"
        z = self._backend.attribute(self._z(sensitive=False), CKA_VALUE)
        hashed = row.hashed(COUNTER + z + row.other_info)
        return self._import(self._wiped_later(bytearray(hashed[: row.key_length])))

    def _import(self, key):
        scalar = self._wiped_later(bytearray(len(self._row.order)))
        self._backend.decrypt_cbc(key, self._iv, self._ciphertext, scalar)
        # Tokens take any number for a scalar. Compared as bytes: an int could not be wiped.
        if not bytes(len(scalar)) < scalar < self._row.order:
            raise VaultError("key-mismatch")
        self.step, self.last = "importing an EC key", True
        curve = [(CKA_EC_PARAMS, self._row.ec_params), (CKA_VALUE, scalar)]
        return self._backend.create(self._template + curve)

    def _unwrap(self, key, iv, data):
        self.step, self.last = "unwrapping an EC key by AES_CBC_PAD", True
        backend, template = self._backend, self._template
        if CKA_NSS_DB not in [kind for kind, _ in template]:
            return backend.unwrap(CKM_AES_CBC_PAD, key, iv, data, template)
        # NSS gives a key that it unwraps the right to derive, whatever the template says.
        first, late = in_two_steps(template, (CKA_DERIVE,))
        return backend.copy(
            self._keep(backend.unwrap(CKM_AES_CBC_PAD, key, iv, data, first)), late
        )

    def _z(self, sensitive=True):
        self.step = "ECDH1_DERIVE"
        # Full width: a shorter one loses its leading bytes.
        template = secret_template(
            len(self._row.order), extractable=not sensitive, sensitive=sensitive
        )
        return self._derive(CKM_ECDH1_DERIVE, self._private, self._dh_point, template)

    def _content_key(self):
        """K, of a Z that is hashed inside of the token."""
        row, z = self._row, self._z()
        self.step = "C_DigestKey of the secret"
        k = self._wiped_later(self._backend.digest(row.hash, (COUNTER, z, row.other_info)))
        return self._wiped_later(k[: row.key_length])

    def _derive(self, mechanism, base, data, template):
        return self._keep(self._backend.derive(mechanism, base, data, template))

    def _keep(self, made):
        self._objects.append(made)
        return made

    def _wiped_later(self, secret):
        self._secrets.append(secret)
        return secret

    def _leave_nothing(self):
        for secret in self._secrets:
            for i in range(len(secret)):
                secret[i] = 0
        failed = None
        for made in self._objects:  # all of them, whatever becomes of one
            try:
                self._backend.destroy(made)
            except VaultError as error:
                failed = error
        if failed:
            raise failed


def secret_template(
    size, kind=CKK_GENERIC_SECRET, uses=(CKA_DERIVE,), sensitive=True, extractable=False
):
    """The template of a secret of `size` bytes that lives for this opening at most."""
    return (
        (CKA_VALUE_LEN, size),
        (CKA_CLASS, CKO_SECRET_KEY),
        (CKA_KEY_TYPE, kind),
        (CKA_TOKEN, False),
        (CKA_PRIVATE, True),
        (CKA_SENSITIVE, sensitive),
        (CKA_EXTRACTABLE, extractable),
    ) + tuple([(use, use in uses) for use in USES])  # what is not forbidden a token may allow


def _pkcs8(row, block=1) -> bytes:
    """What stands before the scalar in its PrivateKeyInfo [RFC 5208, RFC 5915].

    Whole blocks of it: a length in BER may have more octets than it needs. Zeros before the
    scalar, which DER would allow, make a key that NSS 3.110 does not sign with.
    """
    size, more = len(row.order), 0
    oids = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01" + row.ec_params
    key = _ber(0x30, b"\x02\x01\x01\x04" + bytes((size,)), size)
    while True:
        # Over three lengths: OpenSSL does not take so many octets in one.
        body = b"\x02\x01\x00" + _ber(0x30, oids, 0, (more + 1) // 3)
        body += _ber(0x04, key, size, more // 3)
        whole = _ber(0x30, body, size, (more + 2) // 3)
        if len(whole) % block == 0:
            return whole
        more += 1


def _ber(tag: int, start: bytes, size: int, more=0) -> bytes:
    """A value of `start` and `size` bytes that follow it, `more` octets added to its length."""
    length = bytes((len(start) + size,))
    if more:
        length = bytes((0x80 + more,)) + bytes(more - 1) + length
    return bytes((tag,)) + length + start


def xor(a, b) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b))
