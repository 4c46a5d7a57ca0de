"""The stack that EXI takes: the same for every depth of a message, and small.

A board has 8 KiB for everything. MicroPython counts the bytes of its C stack; CPython counts
frames here.
"""

import sys

from evcc import exi
from evcc.exi import grammar
from helpers import skip
from test_signature import part, sign

MOST = 3072  # bytes for EXI alone, on a 32-bit interpreter

try:
    from micropython import stack_use
except ImportError:

    def stack_use():
        """The number of frames."""
        frame, count = sys._getframe(), 0
        while frame is not None:
            frame, count = frame.f_back, count + 1
        return count


FLAT = {"V2G_Message": {"Header": {"SessionID": b""}, "Body": {"AuthorizationReq": {}}}}


def deep():
    """A message with a signature: seven elements in each other."""
    request = {"Id": "id1", "GenChallenge": bytes(16)}
    header = {"SessionID": bytes(8), "Signature": sign(part("id1"))}
    return {"V2G_Message": {"Header": header, "Body": {"AuthorizationReq": request}}}


def stack_of(method, work, *arguments):
    """The most stack at a call of this method of `Grammar`, above the stack here. Its tables are
    unpacked anew: the first message takes most."""
    used = [0]
    original = getattr(grammar.Grammar, method)

    def measured(*arguments):
        used[0] = max(used[0], stack_use())
        return original(*arguments)

    grammar._loaded.clear()
    setattr(grammar.Grammar, method, measured)
    try:
        here = stack_use()
        work(*arguments)
    finally:
        setattr(grammar.Grammar, method, original)
    return used[0] - here


def test_deep_message_is_read_with_the_stack_of_a_flat_one():
    flat, nested = exi.encode(FLAT), exi.encode(deep())
    for method in ("event", "fill", "closure", "state"):
        assert stack_of(method, exi.decode, nested) == stack_of(method, exi.decode, flat), method


def test_deep_message_is_written_with_the_stack_of_a_flat_one():
    for method in ("event", "fill", "closure", "state"):
        assert stack_of(method, exi.encode, deep()) == stack_of(method, exi.encode, FLAT), method


def test_stack_of_exi_has_a_bound():
    if not hasattr(sys.implementation, "_mpy") or sys.maxsize >> 32:
        skip("frames are counted here, or pointers have 64 bits")
    message = deep()
    info = message["V2G_Message"]["Header"]["Signature"]["SignedInfo"]
    for work in (
        (exi.decode, exi.encode(message)),
        (exi.encode, message),
        (exi.fragment, "SignedInfo", info, "xmldsig"),
    ):
        for method in ("u16", "_place"):  # the innermost ones
            assert stack_of(method, *work) < MOST, (work[0].__name__, method)
