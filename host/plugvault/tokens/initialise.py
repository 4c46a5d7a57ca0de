"""Make PKCS#11 tokens: a script run in a process of its own by `softhsm.initialise`.

Reads {"module", "options", "tokens": [{"label", "user", "so"}], "keep"} as JSON from stdin;
`options`: what C_Initialize is given, for NSS, whose tokens have their labels from there and only
want a user PIN; `keep`: a token that is there already is no failure. Exit 0, or 1 with
"reason: detail" on stdout. Imports nothing of this package, so that it starts fast and runs
isolated. Calls the library through ctypes, for python-pkcs11 has no C_InitToken.
"""

import ctypes
import json
import sys
from typing import Any, NoReturn

CKF_SERIAL_SESSION, CKF_RW_SESSION, CKF_TOKEN_INITIALIZED = 4, 2, 0x400
CKF_OS_LOCKING_OK = 2
CKU_SO = 0
# In CK_FUNCTION_LIST, whose first word is the version.
PLACES = {
    "C_Initialize": 1, "C_Finalize": 2, "C_GetSlotList": 5, "C_GetTokenInfo": 7,
    "C_InitToken": 10, "C_InitPIN": 11, "C_OpenSession": 13, "C_Login": 19,
}  # fmt: skip
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_ulong)
# CK_TOKEN_INFO: label[32], manufacturer[32], model[16], serial[16], then CK_ULONGs: flags, four
# session counts, the longest PIN, the shortest PIN, and more.
TOKEN_INFO_SIZE, NUMBERS = 512, 96
FLAGS, PIN_MAX, PIN_MIN = 0, 5, 6


class Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS, and the word that NSS looks for after it."""

    _fields_ = (
        ("mutex_functions", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("options", ctypes.c_char_p),
        ("reserved", ctypes.c_void_p),
    )


REASONS = {0xA0: "pin", 0xA1: "pin", 0xA2: "pin", 0x31: "full", 0x02: "full"}


def fail(reason: str, detail: str) -> NoReturn:
    sys.stdout.write(f"{reason}: {detail}")
    raise SystemExit(1)


def main() -> None:
    wanted = json.load(sys.stdin)
    try:
        library = ctypes.CDLL(wanted["module"])
    except OSError as error:
        fail("module-missing", str(error))
    table = ctypes.POINTER(ctypes.c_void_p)()
    library.C_GetFunctionList(ctypes.byref(table))
    for token in wanted["tokens"]:
        make(table, token, wanted.get("options", ""), wanted["keep"])


def make(table: Any, token: dict[str, str], options: str, keep: bool) -> None:
    label = token["label"].encode()
    if not 1 <= len(label) <= 32:
        fail("refused", "a token label has 1 to 32 bytes")
    label = label.ljust(32)

    def call(name: str, *args: object) -> None:
        # NSS exports no function but the one that tells where the others are.
        code = FUNCTION(table[PLACES[name]])(*args)
        if code:
            fail(REASONS.get(code, "unavailable"), f"{name} returned 0x{code:x}")

    ulong = ctypes.c_ulong
    arguments = Arguments(flags=CKF_OS_LOCKING_OK, options=options.encode())
    call("C_Initialize", ctypes.byref(arguments) if options else None)
    count = ulong()
    call("C_GetSlotList", 1, None, ctypes.byref(count))
    slots = (ulong * count.value)()
    call("C_GetSlotList", 1, slots, ctypes.byref(count))
    free, shortest, longest = None, 0, 0
    for slot in slots:
        info = ctypes.create_string_buffer(TOKEN_INFO_SIZE)
        call("C_GetTokenInfo", ulong(slot), info)
        numbers = (ulong * 7).from_buffer(info, NUMBERS)
        is_label = info.raw[:32] == label
        if not numbers[FLAGS] & CKF_TOKEN_INITIALIZED:
            if is_label or not options:
                free, shortest, longest = slot, numbers[PIN_MIN], numbers[PIN_MAX]
        elif is_label:
            if keep:
                call("C_Finalize", None)
                return
            fail("exists", "a token with this label is there")
    if free is None:
        fail("refused", "no free slot")

    so, user = token["so"].encode(), token["user"].encode()
    # Before anything is written: a token whose user PIN was refused would be left half made.
    pins = (user,) if options else (so, user)
    shortest = max(shortest, 1)
    if not all(shortest <= len(pin) <= longest for pin in pins):
        fail("pin", f"a PIN has {shortest} to {longest} bytes")
    session = ulong()
    if not options:
        call("C_InitToken", ulong(free), so, ulong(len(so)), label)
    flags = CKF_SERIAL_SESSION | CKF_RW_SESSION
    call("C_OpenSession", ulong(free), ulong(flags), None, None, ctypes.byref(session))
    call("C_Login", session, ulong(CKU_SO), so, ulong(len(so)))
    call("C_InitPIN", session, user, ulong(len(user)))
    call("C_Finalize", None)


if __name__ == "__main__":
    main()
