"""The ways to open an envelope into a token. Every intermediate object is destroyed.

ISO 15118-2 [V2G2-814..823]: Z by ECDH; K, the first bytes of the hash of counter | Z | OtherInfo;
the scalar by AES-CBC without padding. Tokens import an unwrapped scalar only inside a PKCS#8
structure. So `rewrap` unwraps the scalar as a plain secret, joins the beginning of the structure
to it, and moves both on under W, a key made for this. `splice` computes the ciphertext of the
structure from the ciphertext of the scalar: for the blocks before it and the padding, K is enough.

`rewrap` and `splice` cannot see whether the scalar is below n: some tokens take n + d for d, which
is the same key, others make a key that signs nothing. No way proves which key it has made:
`pkcs11` does that.
"""

from collections import namedtuple

from . import VaultError
from .cryptoki import (
    CKA_CLASS,
    CKA_EC_PARAMS,
    CKA_KEY_TYPE,
    CKA_UNWRAP,
    CKA_VALUE,
    CKA_WRAP,
    CKK_AES,
    CKK_EC,
    CKM_AES_CBC,
    CKM_AES_CBC_PAD,
    CKM_CONCATENATE_BASE_AND_DATA,
    CKM_CONCATENATE_DATA_AND_BASE,
    CKM_ECDH1_DERIVE,
    CKO_PRIVATE_KEY,
    in_two_steps,
    secret_template,
)

COUNTER = b"\x00\x00\x00\x01"
_BLOCK = 16  # bytes, of AES

# A library's rules for private keys. attributes: point -> the attributes that a key with this
# point needs; copied: the attributes that an unwrapped key accepts only in a copy.
Dialect = namedtuple("Dialect", ("attributes", "copied"))
PLAIN = Dialect(lambda point: [], ())


class Opening:
    """One envelope. private: the object of the provisioning key; wrapped: IV | ciphertext;
    template: of the contract key, without class and type; copied: of the library's `Dialect`.

    `step`: the step in progress, in PKCS#11's words; `makes_key`: whether that step makes the key.
    """

    def __init__(self, backend, row, private, dh_point, wrapped, template, copied=()) -> None:
        self._backend = backend
        self._row = row
        self._private = private
        self._dh_point = dh_point
        self._iv, self._ciphertext = wrapped[:_BLOCK], wrapped[_BLOCK:]
        self._template = template + [(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_KEY_TYPE, CKK_EC)]
        self._copied = copied
        self._objects = []
        self._secrets = []
        self.step = ""
        self.makes_key = False

    def run(self, recipe, inspect=None):
        """The object of the contract key, made by `recipe`, a method below. Can be run again.

        inspect(objects): called with the intermediate objects and the key, before the intermediate
        ones are destroyed. Raises VaultError; "key-mismatch" for a scalar out of range, where the
        recipe can see it. If `makes_key` is then true, the token did not or could not make a key
        of the scalar.
        """
        self._objects, self._secrets, self.makes_key = [], [], False
        try:
            key = recipe(self)
            self.makes_key = False
            if inspect:
                inspect(self._objects + [key])
            return key
        finally:
            self._clean_up()

    def rewrap(self):
        """L3: neither Z nor K nor the scalar leaves the token."""
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
        # Sensitive, so that it cannot be read; extractable, so that it can be wrapped.
        template = secret_template(size, extractable=True)
        scalar = self._register(
            backend.unwrap(CKM_AES_CBC, k, self._iv, self._ciphertext, template)
        )
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
        w = self._register(backend.generate_secret(template))
        self.step = "wrapping a secret by AES_CBC_PAD"
        iv = backend.random(_BLOCK)
        return self._unwrap(w, iv, backend.wrap(CKM_AES_CBC_PAD, w, iv, structure))

    def splice(self):
        """L2: K is read into this process, the scalar is not."""
        backend, row = self._backend, self._row
        key = self._content_key()
        self.step = "importing an unwrapping key"
        template = list(secret_template(len(key), CKK_AES, (CKA_UNWRAP,))[1:])
        template.append((CKA_VALUE, key))
        k = self._register(backend.create(template))
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
        """L1+: K and the scalar are in this process; Z is hashed inside the token."""
        return self._import(self._content_key())

    def import_read(self):
        """L1: Z, K and the scalar are in this process."""
        row = self._row
        self.step = "reading the secret of ECDH1_DERIVE"
        z = self._backend.attribute(self._z(sensitive=False), CKA_VALUE)
        hashed = row.hashed(COUNTER + z + row.other_info)
        return self._import(self._wipe_later(bytearray(hashed[: row.key_length])))

    def _import(self, key):
        scalar = self._wipe_later(bytearray(len(self._row.order)))
        self._backend.decrypt_cbc(key, self._iv, self._ciphertext, scalar)
        # Tokens take any number for a scalar. Compared as bytes: an int could not be wiped.
        if not bytes(len(scalar)) < scalar < self._row.order:
            raise VaultError("key-mismatch")
        self.step, self.makes_key = "importing an EC key", True
        curve = [(CKA_EC_PARAMS, self._row.ec_params), (CKA_VALUE, scalar)]
        return self._backend.create(self._template + curve)

    def _unwrap(self, key, iv, data):
        self.step, self.makes_key = "unwrapping an EC key by AES_CBC_PAD", True
        backend, template = self._backend, self._template
        if not self._copied:
            return backend.unwrap(CKM_AES_CBC_PAD, key, iv, data, template)
        first, later = in_two_steps(template, self._copied)
        unwrapped = self._register(backend.unwrap(CKM_AES_CBC_PAD, key, iv, data, first))
        return backend.copy(unwrapped, later)

    def _z(self, sensitive=True):
        self.step = "ECDH1_DERIVE"
        # The full width: a shorter secret loses its leading bytes.
        template = secret_template(
            len(self._row.order), extractable=not sensitive, sensitive=sensitive
        )
        return self._derive(CKM_ECDH1_DERIVE, self._private, self._dh_point, template)

    def _content_key(self):
        """K, with Z hashed inside the token."""
        row, z = self._row, self._z()
        self.step = "C_DigestKey of the secret"
        k = self._wipe_later(self._backend.digest(row.hash, (COUNTER, z, row.other_info)))
        return self._wipe_later(k[: row.key_length])

    def _derive(self, mechanism, base, data, template):
        return self._register(self._backend.derive(mechanism, base, data, template))

    def _register(self, handle):
        self._objects.append(handle)
        return handle

    def _wipe_later(self, secret):
        self._secrets.append(secret)
        return secret

    def _clean_up(self):
        for secret in self._secrets:
            for i in range(len(secret)):
                secret[i] = 0
        failure = None
        for handle in self._objects:
            try:
                self._backend.destroy(handle)
            except VaultError as error:  # the others are still destroyed
                failure = error
        if failure:
            raise failure


def _pkcs8(row, block=1) -> bytes:
    """The part before the scalar in its PrivateKeyInfo [RFC 5208, RFC 5915], in whole blocks.

    It is filled up by longer lengths, which BER allows. NSS 3.110 does not sign with a key whose
    scalar is filled up by zeros, which DER allows.
    """
    size, extra = len(row.order), 0
    oids = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01" + row.ec_params
    key = _ber(0x30, b"\x02\x01\x01\x04" + bytes((size,)), size)
    while True:
        # Spread over three lengths: OpenSSL does not take so many octets in one.
        body = b"\x02\x01\x00" + _ber(0x30, oids, 0, (extra + 1) // 3)
        body += _ber(0x04, key, size, extra // 3)
        structure = _ber(0x30, body, size, (extra + 2) // 3)
        if len(structure) % block == 0:
            return structure
        extra += 1


def _ber(tag: int, start: bytes, size: int, extra=0) -> bytes:
    """A value of `start` and the `size` bytes after it, its length written with `extra` octets."""
    length = bytes((len(start) + size,))
    if extra:
        length = bytes((0x80 + extra,)) + bytes(extra - 1) + length
    return bytes((tag,)) + length + start


def xor(a, b) -> bytes:
    """`a` XOR `b`, as long as the shorter of the two."""
    return bytes(x ^ y for x, y in zip(a, b))
