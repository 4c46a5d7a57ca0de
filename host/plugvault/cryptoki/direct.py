"""The calls that are made without python-pkcs11, on the session that it has opened.

Through most of them a secret passes: the PIN, a scalar, a digest. python-pkcs11 takes and gives
immutable `bytes` and copies them on the way, so of a scalar that was imported 24 bytes of 32 could
be found in the process hours later, and the PIN whole. Here the library reads it from the caller's
own `bytearray`, and writes a digest into one; each caller wipes what is its own. No other thread
may be in the library meanwhile: see `Token.call`.
"""

import ctypes
from collections.abc import Iterable
from typing import Any

from pkcs11 import exceptions

from evcc.vault.cryptoki import CKA_CLASS, CKA_KEY_TYPE, CKA_TOKEN, CKA_VALUE
from plugvault.cryptoki.library import MAPPER

# Places in CK_FUNCTION_LIST, whose first word is the version [PKCS#11 2.40, 5.3].
_CREATE_OBJECT, _DESTROY_OBJECT = 21, 23
_DIGEST_INIT, _DIGEST_UPDATE, _DIGEST_KEY, _DIGEST_FINAL = 38, 40, 41, 42
_LOGIN, _USER = 19, 1  # its place, and CKU_USER
_GET_TOKEN_INFO, _TOKEN_INFO = 7, 512  # its place, and room for what it tells
_ULONG = ctypes.c_ulong
_PACK = MAPPER.pack_attribute
_ROOM = 64  # bytes, of the longest digest there is

_ERRORS: dict[int, type[exceptions.PKCS11Error]] = {
    0x02: exceptions.HostMemory,
    0x06: exceptions.FunctionFailed,
    0x13: exceptions.AttributeValueInvalid,
    0x31: exceptions.DeviceMemory,
    0x32: exceptions.DeviceRemoved,
    0xA0: exceptions.PinIncorrect,
    0xA1: exceptions.PinInvalid,
    0xA2: exceptions.PinLenRange,
    0xA3: exceptions.PinExpired,
    0xA4: exceptions.PinLocked,
    0xE0: exceptions.TokenNotPresent,
    0xE1: exceptions.TokenNotRecognised,
    0xE2: exceptions.TokenWriteProtected,
    0x100: exceptions.UserAlreadyLoggedIn,
    0x102: exceptions.UserPinNotInitialized,
    0x104: exceptions.AnotherUserAlreadyLoggedIn,
}


class _Attribute(ctypes.Structure):
    _fields_ = (("type", _ULONG), ("value", ctypes.c_void_p), ("length", _ULONG))


def _mechanism(kind: int) -> Any:
    """CK_MECHANISM without a parameter."""
    return (_ULONG * 3)(kind, 0, 0)


class Direct:
    """On the library at `path`, which python-pkcs11 has loaded and initialised."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        table = ctypes.POINTER(ctypes.c_void_p)()
        library.C_GetFunctionList(ctypes.byref(table))
        pointer = ctypes.c_void_p

        def function(place: int, *arguments: Any) -> Any:
            return ctypes.CFUNCTYPE(_ULONG, _ULONG, *arguments)(table[place])  # a session first

        self._token_info = function(_GET_TOKEN_INFO, pointer)
        self._login = function(_LOGIN, _ULONG, pointer, _ULONG)
        self._create = function(_CREATE_OBJECT, pointer, _ULONG, pointer)
        self._destroy = function(_DESTROY_OBJECT, _ULONG)
        self._digest_init = function(_DIGEST_INIT, pointer)
        self._digest_update = function(_DIGEST_UPDATE, ctypes.c_char_p, _ULONG)
        self._digest_key = function(_DIGEST_KEY, _ULONG)
        self._digest_final = function(_DIGEST_FINAL, pointer, pointer)

    def login(self, session: Any, pin: bytearray) -> None:
        """As the token's user. The PIN is read where it is, for its owner to wipe.
        Raises: pkcs11.PKCS11Error."""
        view = (ctypes.c_char * len(pin)).from_buffer(pin)
        code = self._login(session.handle, _USER, ctypes.addressof(view), len(pin))
        if code in _ERRORS:
            raise _ERRORS[code]  # whose name says it all to a person
        _check(code, "C_Login")

    def token_info(self, slot: int) -> bytes:
        """CK_TOKEN_INFO of a slot: python-pkcs11 tells labels with what is no text replaced, and
        without spaces that belong to them. Raises: pkcs11.PKCS11Error."""
        info = ctypes.create_string_buffer(_TOKEN_INFO)
        _check(self._token_info(slot, info), "C_GetTokenInfo")
        return info.raw

    def create(self, session: Any, template: dict[Any, Any]) -> Any:
        """The object that C_CreateObject made. template: its CKA_VALUE is a bytearray.

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
        # python-pkcs11 has only what it finds. By attributes that no token seals: a damaged object
        # makes a search by any other fail.
        wanted = {kind: template[kind] for kind in (CKA_CLASS, CKA_KEY_TYPE, CKA_TOKEN)}
        try:
            (found,) = [one for one in session.get_objects(wanted) if one.handle == handle.value]
        except Exception:
            self._destroy(session.handle, handle)
            raise
        return found

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
        # To the end also of one that failed: it would stay open.
        failed = failed or self._digest_final(handle, None, ctypes.byref(length))
        result = bytearray(length.value or _ROOM)  # never shrunk: that may leave a copy
        view = (ctypes.c_char * len(result)).from_buffer(result)
        length.value = len(result)
        code = self._digest_final(handle, view, ctypes.byref(length))
        if failed or code:
            _wipe(result)
        _check(failed or code, "C_DigestKey, C_DigestFinal")
        return result


def _wipe(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))


def _check(code: int, name: str) -> None:
    if code:
        raise _ERRORS.get(code, exceptions.GeneralError)(f"{name} 0x{code:x}")
