"""The PKCS#11 backend the vault is written on, through ffi: MicroPython's Unix port with a token.

Follows PKCS#11 2.40 with its structures in natural alignment (every Unix). Single-threaded, as
C_Initialize(NULL) promises. Knows no keys and no policy: see `pkcs11`.

Nothing promises that the collector looks for addresses inside packed structures (today's does):
whatever is named by address is kept by a `_Packed` until the call is over.
"""

import os
import struct

import ffi
import uctypes
from cryptolib import aes

from . import VaultError, nss, uri
from .cryptoki import CKA_TOKEN, CKM_ECDH1_DERIVE, REASONS, in_two_steps
from .pin import tries_left
from .pkcs11 import session_public_key
from .softhsm import check_room, token_folder
from .softhsm_files import back_up, flush, reload, repair

# name: (index in CK_FUNCTION_LIST, its arguments). L: CK_ULONG, P: pointer, B: CK_BBOOL.
_FUNCTIONS = {
    "Initialize": (0, "P"),
    "Finalize": (1, "P"),
    "GetSlotList": (4, "BPP"),
    "GetTokenInfo": (6, "LP"),
    "OpenSession": (12, "LLPPP"),
    "CloseSession": (13, "L"),
    "Login": (18, "LLPL"),
    "CreateObject": (20, "LPLP"),
    "CopyObject": (21, "LLPLP"),
    "DestroyObject": (22, "LL"),
    "GetAttributeValue": (24, "LLPL"),
    "FindObjectsInit": (26, "LPL"),
    "FindObjects": (27, "LPLP"),
    "FindObjectsFinal": (28, "L"),
    "DigestInit": (37, "LP"),
    "DigestUpdate": (39, "LPL"),
    "DigestKey": (40, "LL"),
    "DigestFinal": (41, "LPP"),
    "SignInit": (42, "LPL"),
    "Sign": (43, "LPLPP"),
    "VerifyInit": (48, "LPL"),
    "Verify": (49, "LPLPL"),
    "GenerateKey": (58, "LPPLP"),
    "GenerateKeyPair": (59, "LPPLPLPP"),
    "WrapKey": (60, "LPLLPP"),
    "UnwrapKey": (61, "LPLPLPLP"),
    "DeriveKey": (62, "LPLPLP"),
    "GenerateRandom": (64, "LPL"),
}
_ALREADY_INITIALIZED = 0x191
_SIGNATURE_INVALID = (0xC0, 0xC1)
_RW_SERIAL_SESSION = 2 | 4
_CKU_USER = 1
_CKM_EC_KEY_PAIR_GEN, _CKM_ECDSA, _CKM_AES_KEY_GEN = 0x1040, 0x1041, 0x1080
_CKD_NULL = 1
_CKF_OS_LOCKING_OK = 2
_LONGEST_ATTRIBUTE = 256
_LONGEST_WRAPPED = 256
_TOKEN_INFO, _FLAGS = 512, 96  # room for CK_TOKEN_INFO, which begins with the label; its flags
_AT_ONCE = 64  # objects per FindObjects
_WORD = struct.calcsize("L")
_SCHEDULE = 208  # bytes: what AES-128 needs of it, and what stands before; the rest is longer
_TRUE, _FALSE = b"\x01", b"\x00"  # CK_BBOOL


class _Packed:
    """A C structure in `data` (None: NULL) and every buffer it names by address."""

    def __init__(self, data, keep=()) -> None:
        self.data = data
        self.keep = keep


_constant = {}  # template -> its _Packed


def _attributes(template) -> _Packed:
    """CK_ATTRIBUTE[] of (type, value) in a list or a tuple. A tuple's is made once and kept: none
    with a secret in it, for that is a bytearray, and not hashable."""
    if not isinstance(template, tuple):
        return _pack_attributes(template)
    packed = _constant.get(template)
    if packed is None:
        packed = _constant[template] = _pack_attributes(template)
    return packed


def _pack_attributes(template) -> _Packed:
    keep, words = [], []
    for kind, given in template:
        if given is True:
            value = _TRUE
        elif given is False:
            value = _FALSE
        else:
            value = struct.pack("L", given) if isinstance(given, int) else given
        keep.append(value)
        words += (kind, uctypes.addressof(value), len(value))
    return _Packed(bytearray(struct.pack("LPL" * len(keep), *words)), keep)


def _unpack(word) -> int:
    return struct.unpack("L", word)[0]


def _mechanism(kind: int, parameter=None) -> _Packed:
    """CK_MECHANISM; `parameter`: the _Packed structure of its parameter."""
    if parameter is None:
        return _Packed(struct.pack("LPL", kind, 0, 0))
    data = struct.pack("LPL", kind, uctypes.addressof(parameter.data), len(parameter.data))
    return _Packed(data, parameter)


class FfiBackend:
    """A session, logged in, on the token of that name [`uri.Name`]. See `pkcs11` for what each
    call means."""

    def __init__(self, module_path: str, token: str, pin: str, options: str = "") -> None:
        wanted = uri.Name(token)
        try:
            self._library = ffi.open(module_path)  # kept: closing it would unload the code
        except OSError as error:
            raise VaultError("module-missing", module_path + ", errno " + str(error.errno))
        self._folder = token_folder(os.getenv("SOFTHSM2_CONF"))
        table = bytearray(_WORD)
        self._library.func("L", "C_GetFunctionList", "P")(table)
        table = struct.unpack("P", table)[0]
        self._functions = {}
        for name, (index, arguments) in _FUNCTIONS.items():
            # The version before the pointers takes one word.
            pointer = struct.unpack("P", uctypes.bytes_at(table + (index + 1) * _WORD, _WORD))[0]
            self._functions[name] = ffi.func("L", pointer, arguments)
        repair(self._folder)
        arguments = None
        if options:  # CK_C_INITIALIZE_ARGS, its reserved member the string; NSS reads one more
            text = options.encode() + b"\x00"
            where = uctypes.addressof(text)
            arguments = struct.pack("PPPPLPP", 0, 0, 0, 0, _CKF_OS_LOCKING_OK, where, 0)
        code = self._functions["Initialize"](arguments)
        if code not in (0, _ALREADY_INITIALIZED):
            raise _error("Initialize", code)
        session = bytearray(_WORD)
        slot, info = self._slot(wanted)
        self._slot_id, self._label, self._options = slot, uri.label_of(info), options
        self._call("OpenSession", slot, _RW_SERIAL_SESSION, None, None, session)
        self._session = _unpack(session)
        secret = bytearray(pin.encode())
        code = self._functions["Login"](self._session, _CKU_USER, secret, len(secret))
        for i in range(len(secret)):
            secret[i] = 0
        if code:
            info = bytearray(_TOKEN_INFO)
            self._functions["GetTokenInfo"](slot, info)
            self.close()
            raise _error("Login", code, tries_left(struct.unpack_from("L", info, _FLAGS)[0]))
        back_up(self._folder, self._label)

    def reopen(self) -> None:
        """Another session, logged in by the one it replaces, which the token left unusable."""
        session = bytearray(_WORD)
        self._call("OpenSession", self._slot_id, _RW_SERIAL_SESSION, None, None, session)
        self._functions["CloseSession"](self._session)
        self._session = _unpack(session)

    def close(self) -> None:
        self._functions["CloseSession"](self._session)  # the last session: logs out
        self._functions["Finalize"](None)

    def check_room(self) -> None:
        check_room(self._folder)

    def flush(self) -> None:
        flush(self._folder, self._label)
        nss.flush(self._options, self._label)

    def reload(self) -> None:
        reload(self._folder, self._label)

    def create(self, template) -> int:
        if self._folder and (CKA_TOKEN, True) in template:
            # SoftHSM writes the file of an object that is created some thirty times, half an
            # object each time but the last; of one that is copied, three times.
            first, late = in_two_steps(template)
            handle = self.create(first)
            try:
                return self.copy(handle, late)
            finally:
                self.destroy(handle)
        packed, made = _attributes(template), bytearray(_WORD)
        self._call("CreateObject", self._session, packed.data, len(template), made)
        return _unpack(made)

    def copy(self, handle: int, template) -> int:
        packed, made = _attributes(template), bytearray(_WORD)
        self._call("CopyObject", self._session, handle, packed.data, len(template), made)
        return _unpack(made)

    def generate(self, public, private) -> tuple:
        mechanism = _mechanism(_CKM_EC_KEY_PAIR_GEN)
        public_, private_ = _attributes(public), _attributes(private)
        handles = bytearray(_WORD), bytearray(_WORD)
        self._call(
            "GenerateKeyPair",
            self._session,
            mechanism.data,
            public_.data,
            len(public),
            private_.data,
            len(private),
            handles[0],
            handles[1],
        )
        return tuple(_unpack(handle) for handle in handles)

    def generate_secret(self, template) -> int:
        packed, made = _attributes(template), bytearray(_WORD)
        mechanism = _mechanism(_CKM_AES_KEY_GEN)
        self._call("GenerateKey", self._session, mechanism.data, packed.data, len(template), made)
        return _unpack(made)

    def find(self, template) -> list:
        packed, found = _attributes(template), []
        handles, count = bytearray(_AT_ONCE * _WORD), bytearray(_WORD)
        try:
            self._call("FindObjectsInit", self._session, packed.data, len(template))
            while True:
                self._call("FindObjects", self._session, handles, _AT_ONCE, count)
                n = _unpack(count)
                found += struct.unpack("%dL" % n, handles[: n * _WORD])
                if n < _AT_ONCE:
                    return found
        finally:
            self._functions["FindObjectsFinal"](self._session)

    def attribute(self, handle: int, kind: int) -> bytes:
        value = bytearray(_LONGEST_ATTRIBUTE)
        packed = _attributes([(kind, value)])
        self._call("GetAttributeValue", self._session, handle, packed.data, 1)
        return bytes(value[: struct.unpack("LPL", packed.data)[2]])

    def destroy(self, handle: int) -> None:
        self._call("DestroyObject", self._session, handle)

    def sign(self, handle: int, digest: bytes) -> bytes:
        mechanism, signature = _mechanism(_CKM_ECDSA), bytearray(64)
        self._call("SignInit", self._session, mechanism.data, handle)
        length = bytearray(struct.pack("L", len(signature)))
        self._call("Sign", self._session, digest, len(digest), signature, length)
        return bytes(signature)

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """In the token, by a public key object that lives for this call."""
        handle = self.create(session_public_key(point))
        try:
            mechanism = _mechanism(_CKM_ECDSA)
            self._call("VerifyInit", self._session, mechanism.data, handle)
            code = self._functions["Verify"](
                self._session, digest, len(digest), signature, len(signature)
            )
            if code and code not in _SIGNATURE_INVALID:
                raise _error("Verify", code)
            return not code
        finally:
            self.destroy(handle)

    def derive(self, kind: int, handle: int, data, template) -> int:
        """data: the other's point for ECDH1_DERIVE, else what a mechanism joins to the key."""
        parameter = None
        if data is not None:
            keep = bytes(data)
            words = (uctypes.addressof(keep), len(keep))
            if kind == CKM_ECDH1_DERIVE:
                words = (_CKD_NULL, 0, 0, words[1], words[0])
            parameter = _Packed(struct.pack("LLPLP" if words[2:] else "PL", *words), keep)
        mechanism = _mechanism(kind, parameter)
        packed, made = _attributes(template), bytearray(_WORD)
        self._call(
            "DeriveKey", self._session, mechanism.data, handle, packed.data, len(template), made
        )
        return _unpack(made)

    def wrap(self, kind: int, handle: int, iv: bytes, wrapped: int) -> bytes:
        mechanism = _mechanism(kind, _Packed(iv))
        out, length = bytearray(_LONGEST_WRAPPED), bytearray(struct.pack("L", _LONGEST_WRAPPED))
        self._call("WrapKey", self._session, mechanism.data, handle, wrapped, out, length)
        return bytes(out[: _unpack(length)])

    def unwrap(self, kind: int, handle: int, iv: bytes, data: bytes, template) -> int:
        mechanism = _mechanism(kind, _Packed(iv))
        packed, made = _attributes(template), bytearray(_WORD)
        self._call(
            "UnwrapKey",
            self._session,
            mechanism.data,
            handle,
            data,
            len(data),
            packed.data,
            len(template),
            made,
        )
        return _unpack(made)

    def digest(self, mechanism: int, parts) -> bytearray:
        """Of `parts` in order; an int is the handle of a secret, hashed inside the token."""
        out, length = bytearray(64), bytearray(struct.pack("L", 64))
        kind = _mechanism(mechanism)
        self._call("DigestInit", self._session, kind.data)
        try:
            for part in parts:
                if isinstance(part, int):
                    self._call("DigestKey", self._session, part)
                else:
                    self._call("DigestUpdate", self._session, part, len(part))
        finally:  # ends the operation in any case: one left active would block the session
            code = self._functions["DigestFinal"](self._session, out, length)
        if code:
            raise _error("DigestFinal", code)
        return out

    def decrypt_cbc(self, key, iv, data, into) -> None:
        cipher = aes(key, 2, iv)
        cipher.decrypt(data, into)
        _wipe(cipher)

    def ecb(self, key, is_encryption: bool, block) -> bytes:
        cipher = aes(key, 1)
        result = cipher.encrypt(block) if is_encryption else cipher.decrypt(block)
        _wipe(cipher)
        return result

    def random(self, n: int) -> bytes:
        out = bytearray(n)
        self._call("GenerateRandom", self._session, out, n)
        return bytes(out)

    def _call(self, name: str, *args) -> None:
        code = self._functions[name](*args)
        if code:
            raise _error(name, code)

    def _slot(self, wanted: "uri.Name") -> tuple:
        """(slot, CK_TOKEN_INFO) of the token. Slot numbers are not stable, names are."""
        count = bytearray(_WORD)
        self._call("GetSlotList", 1, None, count)
        n = _unpack(count)
        slots = bytearray(n * _WORD)
        self._call("GetSlotList", 1, slots, count)
        found = []
        for slot in struct.unpack("%dL" % n, slots):
            info = bytearray(_TOKEN_INFO)
            if not self._functions["GetTokenInfo"](slot, info):
                found.append(((slot, info), info))
        return wanted.pick(found)


def _wipe(cipher) -> None:
    """The key in a cipher that is not used again: nothing else would, until its room is needed.

    `id` is its address; after its type comes the key's schedule, first of all, in each of the two
    libraries that MicroPython is built with."""
    schedule = uctypes.bytearray_at(id(cipher) + _WORD, _SCHEDULE)
    for i in range(_SCHEDULE):
        schedule[i] = 0


def _error(name: str, code: int, more: str = "") -> VaultError:
    said = "C_%s: 0x%x" % (name, code)
    return VaultError(REASONS.get(code, "unavailable"), said + "; " + more if more else said)
