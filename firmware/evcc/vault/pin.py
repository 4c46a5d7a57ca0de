"""A user PIN, or another secret, in a file.

A token counts wrong PINs and locks itself, so an ambiguous file is refused before its PIN is
tried.
"""

import os

from evcc import utf8

from . import VaultError

_MARK = b"\xef\xbb\xbf"  # a byte order mark, which some editors write


def of_file(path: str, title: str = "PIN") -> str:
    """The PIN, or the secret `title`, in a file: one line of UTF-8, with or without LF or CRLF.

    Refused: a file that other users may read or write, one that is empty or no text, a byte order
    mark, a second line, a control character, a space at either end.
    Raises: VaultError("pin"), without any of the file's content.
    """
    try:
        # A board's file system has no owners, and none of these bits.
        if os.stat(path)[0] & 0o077:
            raise VaultError("pin", "others may read %s: chmod 600 %s" % (path, path))
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        text = "%s cannot be read (errno %d): write the %s there, for its owner alone"
        raise VaultError("pin", text % (path, error.errno, title))
    try:
        return text_of(data)
    except VaultError as error:
        raise VaultError("pin", path + " " + error.detail)


def text_of(data: bytes) -> str:
    """The secret in the bytes of such a file. Raises: VaultError("pin")."""
    fault = _fault(data)
    if fault:
        raise VaultError("pin", fault)
    return _line(data).decode()


def _fault(data: bytes) -> str:
    """The fault in a PIN file's bytes, or ""."""
    line = _line(data)
    if not line:
        return "is empty"
    if line[:3] == _MARK:
        return "begins with a byte order mark: write it without"
    try:
        utf8.decode(line)
    except UnicodeError:
        return "is not text in UTF-8"
    if [c for c in line if c < 32 or c == 127]:
        return "holds more than one line, or a control character"
    if line != line.strip(b" "):
        return "has a space at its beginning or end"
    return ""


def _line(data: bytes) -> bytes:
    if data[-1:] == b"\n":
        data = data[:-1]
        if data[-1:] == b"\r":
            data = data[:-1]
    return data
