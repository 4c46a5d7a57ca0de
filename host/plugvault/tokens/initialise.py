"""Make PKCS#11 tokens: a script that `creation` runs in a process of its own.

Reads {"module", "options", "tokens": [{"label", "user_pin", "so_pin"}], "keep"} as JSON from
stdin. `options`: the text for C_Initialize, of NSS: the text has the labels of its tokens, which
need a user PIN only. `keep`: an existing token is no failure. Exit 0, or 1 with "reason: detail"
on stdout. Imports nothing of this package: so it starts fast and runs isolated. It calls the
library by ctypes, because python-pkcs11 has no C_InitToken.
"""

import ctypes
import json
import sys
from typing import NamedTuple, NoReturn

CKF_SERIAL_SESSION, CKF_RW_SESSION, CKF_TOKEN_INITIALIZED = 4, 2, 0x400
CKF_OS_LOCKING_OK = 2
CKU_SO = 0
# Indexes in CK_FUNCTION_LIST, whose first word is the version.
INDEXES = {
    "C_Initialize": 1, "C_Finalize": 2, "C_GetSlotList": 5, "C_GetTokenInfo": 7,
    "C_InitToken": 10, "C_InitPIN": 11, "C_OpenSession": 13, "C_Login": 19,
}  # fmt: skip
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_ulong)
# CK_TOKEN_INFO: label[32], manufacturer[32], model[16], serial[16], then CK_ULONGs: flags, four
# session counts, the longest PIN, the shortest PIN, and more.
TOKEN_INFO_SIZE, NUMBERS = 512, 96
FLAGS, PIN_MAX, PIN_MIN = 0, 5, 6
ulong = ctypes.c_ulong


class Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS, and the word after it that NSS reads."""

    _fields_ = (
        ("mutex_functions", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("options", ctypes.c_char_p),
        ("reserved", ctypes.c_void_p),
    )


REASONS = {0xA0: "pin", 0xA1: "pin", 0xA2: "pin", 0x31: "full", 0x02: "full"}


def fail(reason: str, detail: str) -> NoReturn:
    """End the script with "reason: detail" on stdout."""
    sys.stdout.write(f"{reason}: {detail}")
    raise SystemExit(1)


class Slot(NamedTuple):
    """A slot with its token. label: of the token, 32 bytes; is_made: whether the token is
    initialised; shortest_pin, longest_pin: bytes."""

    number: int
    label: bytes
    is_made: bool
    shortest_pin: int
    longest_pin: int


class TokenLibrary:
    """The library at a path, and the functions of its list. A failure ends the script."""

    def __init__(self, path: str) -> None:
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            fail("module-missing", str(error))
        self._table = ctypes.POINTER(ctypes.c_void_p)()
        library.C_GetFunctionList(ctypes.byref(self._table))

    def call(self, name: str, *arguments: object) -> None:
        """Call the function of this name; a return code other than CKR_OK ends the script."""
        # By the list: NSS exports no other function.
        code = FUNCTION(self._table[INDEXES[name]])(*arguments)
        if code:
            fail(REASONS.get(code, "unavailable"), f"{name} returned 0x{code:x}")

    def slots(self) -> list[Slot]:
        """Every slot with a token, initialised or not."""
        count = ulong()
        self.call("C_GetSlotList", 1, None, ctypes.byref(count))
        numbers = (ulong * count.value)()
        self.call("C_GetSlotList", 1, numbers, ctypes.byref(count))
        return [self._slot(number) for number in numbers]

    def _slot(self, number: int) -> Slot:
        info = ctypes.create_string_buffer(TOKEN_INFO_SIZE)
        self.call("C_GetTokenInfo", ulong(number), info)
        values = (ulong * 7).from_buffer(info, NUMBERS)
        is_made = bool(values[FLAGS] & CKF_TOKEN_INITIALIZED)
        return Slot(number, info.raw[:32], is_made, values[PIN_MIN], values[PIN_MAX])


def main() -> None:
    request = json.load(sys.stdin)
    library, options = TokenLibrary(request["module"]), request["options"]
    for token in request["tokens"]:
        # Initialised anew for each: a running library does not see the token just made.
        arguments = Arguments(flags=CKF_OS_LOCKING_OK, options=options.encode())
        library.call("C_Initialize", ctypes.byref(arguments) if options else None)
        make(library, token, bool(options), request["keep"])
        library.call("C_Finalize", None)


def make(library: TokenLibrary, token: dict[str, str], is_nss: bool, keep: bool) -> None:
    """Make one token in a free slot, unless `keep` is true and one of its label exists."""
    label = token["label"].encode()
    if not 1 <= len(label) <= 32:
        fail("refused", "a token label has 1 to 32 bytes")
    label = label.ljust(32)
    slots = library.slots()
    if any(slot.is_made and slot.label == label for slot in slots):
        if keep:
            return
        fail("exists", "a token with this label is there")
    free = [slot for slot in slots if not slot.is_made and (slot.label == label or not is_nss)]
    if not free:
        fail("refused", "no free slot")
    initialise(library, free[-1], label, token, is_nss)


def initialise(
    library: TokenLibrary, slot: Slot, label: bytes, token: dict[str, str], is_nss: bool
) -> None:
    """Set label and PINs of the token in a slot."""
    so_pin, user_pin = token["so_pin"].encode(), token["user_pin"].encode()
    # Before the first change: a token whose user PIN is refused would be left without one.
    shortest, longest = max(slot.shortest_pin, 1), slot.longest_pin
    pins = (user_pin,) if is_nss else (so_pin, user_pin)
    if not all(shortest <= len(pin) <= longest for pin in pins):
        fail("pin", f"a PIN has {shortest} to {longest} bytes")
    if not is_nss:
        library.call("C_InitToken", ulong(slot.number), so_pin, ulong(len(so_pin)), label)
    session, flags = ulong(), ulong(CKF_SERIAL_SESSION | CKF_RW_SESSION)
    library.call("C_OpenSession", ulong(slot.number), flags, None, None, ctypes.byref(session))
    library.call("C_Login", session, ulong(CKU_SO), so_pin, ulong(len(so_pin)))
    library.call("C_InitPIN", session, user_pin, ulong(len(user_pin)))


if __name__ == "__main__":
    main()
