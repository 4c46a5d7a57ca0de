"""The return codes of PKCS#11 as python-pkcs11's exceptions, and the vault's reasons for them."""

import struct

from pkcs11 import exceptions

from evcc.vault.cryptoki import REASONS

# The errors of python-pkcs11 for an attribute that is not valid text, an unknown number, or of the
# wrong length.
DAMAGED = (ValueError, struct.error)

_EXCEPTIONS: dict[int, type[exceptions.PKCS11Error]] = {
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
    0x110: exceptions.WrappedKeyInvalid,
}
_CODES = {exception: code for code, exception in _EXCEPTIONS.items()}


def exception_of(code: int, function: str) -> exceptions.PKCS11Error:
    """The exception for a return code. function: its name, for a code without an exception."""
    exception = _EXCEPTIONS.get(code)
    return exception() if exception else exceptions.GeneralError(f"{function} 0x{code:x}")


def reason_of(error: exceptions.PKCS11Error) -> str:
    """The reason of the VaultError for an exception of python-pkcs11."""
    return REASONS.get(_CODES.get(type(error), 0), "unavailable")
