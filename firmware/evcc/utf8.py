"""UTF-8 decoding with the same result on every runtime (RFC 3629).

MicroPython's own `decode` also takes overlong forms, surrogates and numbers above U+10FFFF.
"""


def decode(raw: "bytes | bytearray") -> str:
    """The text of these bytes. Raises: UnicodeError for everything that is not UTF-8."""
    text = str(raw, "utf-8")
    if len(text) == len(raw):  # ASCII
        return text
    size = 0
    for character in text:
        point = ord(character)
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise UnicodeError("no character")
        size += 1 + (point > 0x7F) + (point > 0x7FF) + (point > 0xFFFF)
    if size != len(raw):
        raise UnicodeError("overlong")
    return text
