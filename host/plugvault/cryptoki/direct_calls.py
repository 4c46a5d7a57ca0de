"""PKCS#11 functions called by ctypes, on a session that python-pkcs11 has opened.

A secret passes through most of them: the PIN, a scalar, a digest. python-pkcs11 takes and returns
immutable `bytes` and copies them, so 24 of 32 bytes of an imported scalar, and a whole PIN, could
be found in the process hours later. Here the library reads the caller's own `bytearray`, or writes
a digest into one, and the caller wipes it. No other thread may be in the library meanwhile: see
`Library.call`.
"""

import ctypes
from collections.abc import Iterable
from typing import Any

from evcc.vault.cryptoki import CKA_CLASS, CKA_KEY_TYPE, CKA_TOKEN, CKA_VALUE
from plugvault.cryptoki.attributes import MAPPER
from plugvault.cryptoki.errors import exception_of

# Indexes in CK_FUNCTION_LIST, whose first word is the version [PKCS#11 2.40, 5.3].
_CREATE_OBJECT, _DESTROY_OBJECT = 21, 23
_DIGEST_INIT, _DIGEST_UPDATE, _DIGEST_KEY, _DIGEST_FINAL = 38, 40, 41, 42
_LOGIN, _USER = 19, 1  # the index, and CKU_USER
_GET_TOKEN_INFO, _TOKEN_INFO = 7, 512  # the index, and room for CK_TOKEN_INFO
_ULONG = ctypes.c_ulong
_PACK = MAPPER.pack_attribute
_ROOM = 64  # bytes, of the longest digest


class _Attribute(ctypes.Structure):
    _fields_ = (("type", _ULONG), ("value", ctypes.c_void_p), ("length", _ULONG))


def _mechanism(kind: int) -> Any:
    """CK_MECHANISM without a parameter."""
    return (_ULONG * 3)(kind, 0, 0)


class DirectCalls:
    """The functions of the library at `path`, which python-pkcs11 has loaded and initialised."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        table = ctypes.POINTER(ctypes.c_void_p)()
        library.C_GetFunctionList(ctypes.byref(table))
        pointer = ctypes.c_void_p

        def function(index: int, *arguments: Any) -> Any:
            # The first argument is a session, or a slot.
            return ctypes.CFUNCTYPE(_ULONG, _ULONG, *arguments)(table[index])

        self._token_info = function(_GET_TOKEN_INFO, pointer)
        self._login = function(_LOGIN, _ULONG, pointer, _ULONG)
        self._create = function(_CREATE_OBJECT, pointer, _ULONG, pointer)
        self._destroy = function(_DESTROY_OBJECT, _ULONG)
        self._digest_init = function(_DIGEST_INIT, pointer)
        self._digest_update = function(_DIGEST_UPDATE, ctypes.c_char_p, _ULONG)
        self._digest_key = function(_DIGEST_KEY, _ULONG)
        self._digest_final = function(_DIGEST_FINAL, pointer, pointer)

    def login(self, session: Any, pin: bytearray) -> None:
        """Log in as the token's user. The PIN is not copied; the caller wipes it.

        Raises: pkcs11.PKCS11Error.
        """
        view = (ctypes.c_char * len(pin)).from_buffer(pin)
        code = self._login(session.handle, _USER, ctypes.addressof(view), len(pin))
        _check(code, "C_Login")

    def token_info(self, slot: int) -> bytes:
        """CK_TOKEN_INFO of a slot. In a label, python-pkcs11 replaces bytes that are not UTF-8 and
        strips spaces that belong to it. Raises: pkcs11.PKCS11Error."""
        info = ctypes.create_string_buffer(_TOKEN_INFO)
        _check(self._token_info(slot, info), "C_GetTokenInfo")
        return info.raw

    def create(self, session: Any, template: dict[Any, Any]) -> Any:
        """The new object of C_CreateObject. template: its CKA_VALUE is a bytearray.

        Raises: pkcs11.PKCS11Error.
        """
        packed = {
            kind: value if kind == CKA_VALUE else bytearray(_PACK(kind, value))
            for kind, value in template.items()
        }
        views = [(ctypes.c_char * len(value)).from_buffer(value) for value in packed.values()]
        attributes = (_Attribute * len(views))()
        for each, kind, view in zip(attributes, packed, views, strict=True):
            each.type, each.value, each.length = kind, ctypes.addressof(view), len(view)
        handle = _ULONG()
        _check(
            self._create(session.handle, attributes, len(views), ctypes.byref(handle)),
            "C_CreateObject",
        )
        # python-pkcs11 makes its objects by a search only. This one uses attributes that no token
        # encrypts: a damaged object makes a search by any other attribute fail.
        search = {kind: template[kind] for kind in (CKA_CLASS, CKA_KEY_TYPE, CKA_TOKEN)}
        try:
            (created,) = [key for key in session.get_objects(search) if key.handle == handle.value]
        except Exception:
            self._destroy(session.handle, handle)
            raise
        return created

    def digest(self, session: Any, mechanism: int, parts: Iterable[Any]) -> bytearray:
        """The digest of parts, each bytes or a key. Raises: pkcs11.PKCS11Error."""
        handle, length, failed = session.handle, _ULONG(), 0
        _check(self._digest_init(handle, _mechanism(mechanism)), "C_DigestInit")
        for part in parts:
            is_key = hasattr(part, "handle")
            code = (
                self._digest_key(handle, part.handle)
                if is_key
                else self._digest_update(handle, part, len(part))
            )
            failed = failed or code
        # C_DigestFinal also after a failure: the operation would stay active.
        failed = failed or self._digest_final(handle, None, ctypes.byref(length))
        result = bytearray(length.value or _ROOM)  # not shrunk later: that may leave a copy
        view = (ctypes.c_char * len(result)).from_buffer(result)
        length.value = len(result)
        code = self._digest_final(handle, view, ctypes.byref(length))
        if failed or code:
            _wipe(result)
        _check(failed or code, "C_DigestKey, C_DigestFinal")
        return result


def _wipe(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))


def _check(code: int, function: str) -> None:
    if code:
        raise exception_of(code, function)
