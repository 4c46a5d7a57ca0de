"""The Cryptoki backend through ffi, for MicroPython's Unix port.

Follows PKCS#11 2.40 with its structures in natural alignment (every Unix). Single-threaded, as
C_Initialize(NULL) promises.

A garbage collector need not look for addresses inside packed structures (today's does). So a
`_Packed` holds every buffer that a structure names by address until the call is over.
"""

import os
import struct

import ffi
import uctypes
from cryptolib import aes

from . import VaultError, uri
from .backend import CryptokiBackend, token_files
from .cryptoki import CKM_ECDH1_DERIVE, REASONS, session_public_key, tries_left
from .schemes import SCHEMES

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
_CONF = "/etc/softhsm/softhsm2.conf"  # of a SoftHSM without SOFTHSM2_CONF
_SIGNATURE_INVALID = (0xC0, 0xC1)
_RW_SERIAL_SESSION = 2 | 4
_CKU_USER = 1
_CKM_EC_KEY_PAIR_GEN, _CKM_ECDSA, _CKM_AES_KEY_GEN = 0x1040, 0x1041, 0x1080
_CKD_NULL = 1
_CKF_OS_LOCKING_OK = 2
_LONGEST_ATTRIBUTE = 256
_LONGEST_WRAPPED = 256
_TOKEN_INFO, _FLAGS = 512, 96  # room for CK_TOKEN_INFO, which begins with the label; its flags
_FIND_LIMIT = 64  # objects per C_FindObjects
_WORD = struct.calcsize("L")
_SCHEDULE = 208  # bytes: the key schedule of AES-128 and the fields before it
_TRUE, _FALSE = b"\x01", b"\x00"  # CK_BBOOL


class _Packed:
    """A C structure in `data` (None: NULL) and every buffer that it names by address."""

    def __init__(self, data, buffers=()) -> None:
        self.data = data
        self.buffers = buffers


_template_cache = {}  # tuple -> its _Packed


def _attributes(template) -> _Packed:
    """CK_ATTRIBUTE[] of a template. A tuple's is cached: it holds no secret, for secrets are
    bytearrays, which are not hashable."""
    if not isinstance(template, tuple):
        return _pack_attributes(template)
    packed = _template_cache.get(template)
    if packed is None:
        packed = _template_cache[template] = _pack_attributes(template)
    return packed


def _pack_attributes(template) -> _Packed:
    buffers, words = [], []
    for kind, value in template:
        buffer = value
        if value is True or value is False:
            buffer = _TRUE if value else _FALSE
        elif isinstance(value, int):
            buffer = struct.pack("L", value)
        buffers.append(buffer)
        words += (kind, uctypes.addressof(buffer), len(buffer))
    return _Packed(bytearray(struct.pack("LPL" * len(buffers), *words)), buffers)


def _unpack(word) -> int:
    return struct.unpack("L", word)[0]


def _mechanism(kind: int, parameter=None) -> _Packed:
    """CK_MECHANISM; `parameter`: the _Packed structure of its parameter."""
    if parameter is None:
        return _Packed(struct.pack("LPL", kind, 0, 0))
    data = struct.pack("LPL", kind, uctypes.addressof(parameter.data), len(parameter.data))
    return _Packed(data, parameter)


class FfiBackend(CryptokiBackend):
    """A session on a token through `ffi`. module_path: of the PKCS#11 library; token: its name
    [`uri.Name`]; options: the string for C_Initialize, which only NSS needs."""

    def __init__(self, module_path: str, token: str, pin: str, options: str = "") -> None:
        name = uri.Name(token)
        self._functions = self._load(module_path)
        files = token_files(os.getenv("SOFTHSM2_CONF"), options)
        files.repair()
        self._initialize(options)
        self._slot_id, info = self._find_slot(name)
        CryptokiBackend.__init__(self, files, uri.label_of(info))
        self._session = self._open_session()
        self._log_in(pin)
        files.back_up(self._label)

    def _load(self, module_path: str) -> dict:
        """{name: function} of CK_FUNCTION_LIST."""
        try:
            self._library = ffi.open(module_path)  # a reference: closing it would unload the code
        except OSError as error:
            raise VaultError("module-missing", module_path + ", errno " + str(error.errno))
        table = bytearray(_WORD)
        self._library.func("L", "C_GetFunctionList", "P")(table)
        table = struct.unpack("P", table)[0]
        functions = {}
        for name, (index, arguments) in _FUNCTIONS.items():
            # The version before the pointers takes one word.
            pointer = struct.unpack("P", uctypes.bytes_at(table + (index + 1) * _WORD, _WORD))[0]
            functions[name] = ffi.func("L", pointer, arguments)
        return functions

    def _initialize(self, options: str) -> None:
        arguments = None
        if options:  # CK_C_INITIALIZE_ARGS, its reserved member the string; NSS reads one more
            text = options.encode() + b"\x00"
            address = uctypes.addressof(text)
            arguments = struct.pack("PPPPLPP", 0, 0, 0, 0, _CKF_OS_LOCKING_OK, address, 0)
        code = self._functions["Initialize"](arguments)
        if code not in (0, _ALREADY_INITIALIZED):
            from .softhsm import trouble

            error = _error("Initialize", code)
            text = "" if options else trouble(os.getenv("SOFTHSM2_CONF") or _CONF)
            raise VaultError(error.reason, error.detail + (text and ": " + text))

    def _find_slot(self, name: "uri.Name") -> tuple:
        """(slot, CK_TOKEN_INFO) of the token. Slot numbers are not stable, names are."""
        count = bytearray(_WORD)
        self._call("GetSlotList", 1, None, count)
        n = _unpack(count)
        slots = bytearray(n * _WORD)
        self._call("GetSlotList", 1, slots, count)
        tokens = []
        for slot in struct.unpack("%dL" % n, slots):
            info = bytearray(_TOKEN_INFO)
            if not self._functions["GetTokenInfo"](slot, info):
                tokens.append(((slot, info), info))
        return name.pick(tokens)

    def _open_session(self) -> int:
        session = bytearray(_WORD)
        self._call("OpenSession", self._slot_id, _RW_SERIAL_SESSION, None, None, session)
        return _unpack(session)

    def _log_in(self, pin: str) -> None:
        secret = bytearray(pin.encode())
        code = self._functions["Login"](self._session, _CKU_USER, secret, len(secret))
        for i in range(len(secret)):
            secret[i] = 0
        if code:
            info = bytearray(_TOKEN_INFO)
            self._functions["GetTokenInfo"](self._slot_id, info)
            self.close()
            raise _error("Login", code, tries_left(struct.unpack_from("L", info, _FLAGS)[0]))

    def reopen(self) -> None:
        former = self._session
        self._session = self._open_session()  # before the last logged-in session closes
        self._functions["CloseSession"](former)

    def close(self) -> None:
        self._functions["CloseSession"](self._session)  # the last session: logs out
        self._functions["Finalize"](None)

    def _create(self, template) -> int:
        packed, handle = _attributes(template), bytearray(_WORD)
        self._call("CreateObject", self._session, packed.data, len(template), handle)
        return _unpack(handle)

    def copy(self, handle: int, template) -> int:
        packed, output = _attributes(template), bytearray(_WORD)
        self._call("CopyObject", self._session, handle, packed.data, len(template), output)
        return _unpack(output)

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
        packed, output = _attributes(template), bytearray(_WORD)
        mechanism = _mechanism(_CKM_AES_KEY_GEN)
        self._call(
            "GenerateKey", self._session, mechanism.data, packed.data, len(template), output
        )
        return _unpack(output)

    def find(self, template) -> list:
        packed, objects = _attributes(template), []
        handles, count = bytearray(_FIND_LIMIT * _WORD), bytearray(_WORD)
        try:
            self._call("FindObjectsInit", self._session, packed.data, len(template))
            while True:
                self._call("FindObjects", self._session, handles, _FIND_LIMIT, count)
                n = _unpack(count)
                objects += struct.unpack("%dL" % n, handles[: n * _WORD])
                if n < _FIND_LIMIT:
                    return objects
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
        handle = self._create(session_public_key(SCHEMES["iso2"], point))
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

    def derive(self, mechanism: int, handle: int, data, template) -> int:
        parameter = None
        if data is not None:
            buffer = bytes(data)
            address, size = uctypes.addressof(buffer), len(buffer)
            if mechanism == CKM_ECDH1_DERIVE:
                parameter = struct.pack("LLPLP", _CKD_NULL, 0, 0, size, address)
            else:
                parameter = struct.pack("PL", address, size)
            parameter = _Packed(parameter, buffer)
        packed_mechanism = _mechanism(mechanism, parameter)
        packed, output = _attributes(template), bytearray(_WORD)
        self._call(
            "DeriveKey",
            self._session,
            packed_mechanism.data,
            handle,
            packed.data,
            len(template),
            output,
        )
        return _unpack(output)

    def wrap(self, mechanism: int, handle: int, iv: bytes, wrapped: int) -> bytes:
        packed = _mechanism(mechanism, _Packed(iv))
        out, length = bytearray(_LONGEST_WRAPPED), bytearray(struct.pack("L", _LONGEST_WRAPPED))
        self._call("WrapKey", self._session, packed.data, handle, wrapped, out, length)
        return bytes(out[: _unpack(length)])

    def unwrap(self, mechanism: int, handle: int, iv: bytes, data: bytes, template) -> int:
        packed_mechanism = _mechanism(mechanism, _Packed(iv))
        packed, output = _attributes(template), bytearray(_WORD)
        self._call(
            "UnwrapKey",
            self._session,
            packed_mechanism.data,
            handle,
            data,
            len(data),
            packed.data,
            len(template),
            output,
        )
        return _unpack(output)

    def digest(self, mechanism: int, parts) -> bytearray:
        out, length = bytearray(64), bytearray(struct.pack("L", 64))
        packed = _mechanism(mechanism)
        self._call("DigestInit", self._session, packed.data)
        try:
            for part in parts:
                if isinstance(part, int):  # the handle of a secret, hashed inside the token
                    self._call("DigestKey", self._session, part)
                else:
                    self._call("DigestUpdate", self._session, part, len(part))
        finally:  # an operation left active would block the session
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


def _wipe(cipher) -> None:
    """Overwrite the key of a cipher that is not used again: MicroPython frees it unwiped.

    `id` is the address. The key schedule follows the type first of all, in both of the libraries
    that MicroPython is built with."""
    schedule = uctypes.bytearray_at(id(cipher) + _WORD, _SCHEDULE)
    for i in range(_SCHEDULE):
        schedule[i] = 0


def _error(name: str, code: int, more: str = "") -> VaultError:
    detail = "C_%s: 0x%x" % (name, code)
    return VaultError(REASONS.get(code, "unavailable"), detail + "; " + more if more else detail)
