"""Bytes from outside that are to be text: the same verdict on every interpreter."""


def utf8(value: "bytes | bytearray") -> "str | None":
    """The text in UTF-8, or None. MicroPython by itself takes surrogates, and forms that are
    longer than they have to be."""
    try:
        text = bytes(value).decode()
        whole = "".join([chr(ord(c)) for c in text]).encode() == value
    except (UnicodeError, ValueError):
        return None
    return text if whole and not [c for c in text if 0xD800 <= ord(c) < 0xE000] else None


def unhex(text: str, length: int) -> "bytes | None":
    """The bytes of exactly 2 * length hexadecimal digits and nothing between them, or None."""
    if len(text) != 2 * length or [c for c in text if c not in "0123456789abcdefABCDEF"]:
        return None
    return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])
