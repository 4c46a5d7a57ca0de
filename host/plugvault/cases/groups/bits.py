"""Changes of single bits, which no encoder makes: EXI is not aligned to bytes."""

from collections.abc import Callable


def overwritten(message: bytes, at: int, value: int, width: int) -> bytes:
    """The message with `width` bits from bit `at` on replaced by `value`."""
    shift = len(message) * 8 - at - width
    mask = ((1 << width) - 1) << shift
    number = int.from_bytes(message, "big") & ~mask | value << shift
    return number.to_bytes(len(message), "big")


def bit_of(message: bytes, value: bytes) -> int:
    """The number of the first bit at which `value` (several bytes) begins in the message.

    Raises ValueError for a value that is not in the message.
    """
    number, wanted = int.from_bytes(message, "big"), int.from_bytes(value, "big")
    total, width = len(message) * 8, len(value) * 8
    mask = (1 << width) - 1
    for at in range(total - width + 1):
        if number >> (total - width - at) & mask == wanted:
            return at
    raise ValueError("the value does not stand in the message")


def length_of(value: Callable[[bytes], bytes], claimed: bytes) -> Callable[[bytes], bytes]:
    """A change of the length in front of a value. value: message -> the value's bytes. claimed:
    the EXI unsigned integer to write there, as long as the one in the message."""

    def change(message: bytes) -> bytes:
        width = len(claimed) * 8
        at = bit_of(message, value(message)[:24]) - width
        return overwritten(message, at, int.from_bytes(claimed, "big"), width)

    return change


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit flipped, counted from the first byte's highest bit."""
    changed = bytearray(data)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)
