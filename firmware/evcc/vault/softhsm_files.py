"""SoftHSM's files after a process died: the token that is gone, the file that ends the next one.

SoftHSM rewrites a file in place: it empties it, then writes. At every login that file is
`token.object`, and a token whose `token.object` is empty or cut off is not listed any more, with
all that is in it. So a copy of it is kept beside it (`token.kept`, for which SoftHSM has no eyes)
after each login, and put back when the original is not whole. What is put back is what was there:
nothing is initialised. A PIN changed since, by another program, is the old one again. When the
original has changed the copy before stays too (`token.before`): to a library a bit turned over in
there can look like another PIN, and only a person can tell.

A length in a file that no file has makes SoftHSM end its process while it only looks what is
there. Such a file is renamed, X.object to X.damaged: one key is missing then, not all of them. It
ends it too where two slots would have one number: that is made of the last digits of a token's
serial number, as far as they are digits, and the empty slot has the number of tokens. A token
whose serial number is damaged that way is renamed and put back likewise; but which of two copies
of one token is to stay, nobody here can know.

Neither touches a file that is only empty or cut off: it may be one that is being written.

SoftHSM flushes nothing: a key it has acknowledged is lost when the power goes within seconds, and
the contract store, which flushes, would name a key that is not there. So its files are flushed
after it.
"""

import os
import struct

from evcc.errors import EvccError
from evcc.ports.files import Files, flush_path

from . import VaultError

_TOKEN, _KEPT, _BEFORE = "token.object", "token.kept", "token.before"
_HEAD = 8  # a generation: a file's, one more for each writing, or the token's
_TOO_LONG = 1 << 20
_WHOLE, _CUT_OFF, _FATAL = 0, 1, 2
_PLAIN = {1: 1, 2: 8}  # kinds of attributes that have one size: a bool, a number
_COUNTED = {3: 1, 4: 1, 5: 8}  # that begin with a count: of bytes, of bytes, of mechanisms
_SERIAL = struct.pack(">QQ", 0x8000534A, 3)  # type and kind of that attribute


def repair(folder) -> None:
    """Before the library looks into its folder of tokens (None: it is not SoftHSM).

    Raises: VaultError("unavailable") where two tokens are one.
    """
    tokens, slots = _tokens(folder), {}
    for token in tokens:
        try:
            for name in os.listdir(token):
                if not name.endswith(".object"):
                    continue
                data = _read(token + "/" + name)
                if _state(data) == _FATAL or (name == _TOKEN and 0 < _slot(data) <= len(tokens)):
                    os.rename(token + "/" + name, token + "/" + name[:-6] + "damaged")
            kept = _read(token + "/" + _KEPT)
            data = _read(token + "/" + _TOKEN)
            # Cut off between two attributes it looks whole: then it is the beginning of the copy.
            short = len(data) < len(kept) and kept[_HEAD:].startswith(data[_HEAD:])
            if kept and (short or _state(data) != _WHOLE):
                _write(token, _TOKEN, kept)
        except (OSError, EvccError):
            pass  # no right to do it, no room: the library will say what it is without
        slot = _slot(_read(token + "/" + _TOKEN))
        if slot in slots:
            text = "one serial number for two tokens: move away either %s or %s"
            raise VaultError("unavailable", text % (slots[slot], token))
        if slot >= 0:
            slots[slot] = token


def back_up(folder, label: str) -> None:
    """After a login to the token of that label."""
    for token in _tokens(folder, label):
        data = _read(token + "/" + _TOKEN)
        if _state(data) != _WHOLE:
            continue
        try:
            kept = _read(token + "/" + _KEPT)
            if kept[_HEAD:] != data[_HEAD:]:
                if kept:
                    os.rename(token + "/" + _KEPT, token + "/" + _BEFORE)
                _write(token, _KEPT, data)
        except (OSError, EvccError):
            pass  # a full disk is no reason not to use the token


def flush(folder, label: str) -> None:
    """After a key was made in the token of that label, and before anybody relies on it."""
    for token in _tokens(folder, label):
        for name in os.listdir(token):
            if name.endswith(".object"):
                flush_path(token + "/" + name)
        flush_path(token)


def reload(folder, label: str) -> None:
    """SoftHSM, in every process, reads the folder of the token of that label once more.

    It does so when the number in `generation` is not the one it knows, and adds one at a change
    of its own: so of two processes that change the token at once, the second takes the number of
    both for its own and never sees what the first did. A number that nobody can know is news to
    all. No lock: whatever SoftHSM writes over it is as new.
    """
    for token in _tokens(folder, label):
        try:
            with open(token + "/generation", "r+b") as file:
                file.write(os.urandom(_HEAD))
        except OSError:
            pass  # it is not there, so SoftHSM looks every time; or nothing changes, read-only


def _tokens(folder, label: str = "") -> list:
    """The folders of all tokens, or of those with that label."""
    try:
        found = [folder + "/" + name for name in os.listdir(folder)] if folder else []
    except OSError:
        return []
    wanted = label.encode()
    wanted += b" " * (32 - len(wanted))
    return [one for one in found if not label or wanted in _read(one + "/" + _TOKEN)]


def _write(token: str, name: str, data: bytes) -> None:
    Files(token).write(name, data)
    if hasattr(os, "chmod"):  # MicroPython has none; the token's folder keeps others out
        os.chmod(token + "/" + name, 0o600)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _slot(data: bytes) -> int:
    """The number SoftHSM gives to the slot of the token with this file; -1: none."""
    at = data.find(_SERIAL)
    if at < 0 or _state(data) != _WHOLE:
        return -1
    at += 24
    serial = data[at : at + int.from_bytes(data[at - 8 : at], "big")]
    digits = serial[-8:].lower().lstrip(b" \t\n\v\f\r+")  # as C's strtoul reads it
    number = 0
    for digit in digits[2:] if digits[:2] == b"0x" else digits:
        value = b"0123456789abcdef".find(bytes((digit,)))
        if value < 0:
            break
        number = number * 16 + value
    return number & 0x7FFFFFFF


def _state(data: bytes) -> int:
    """Of an object file: its generation, then attributes: type, kind, value."""
    at, end = _HEAD, len(data)
    while at < end:
        kind, length = struct.unpack(">QQ", (data[at + 8 : at + 24] + bytes(16))[:16])
        if kind in _PLAIN:
            at += 16 + _PLAIN[kind]
        elif kind not in _COUNTED or at + 24 > end:
            return _CUT_OFF
        elif length > _TOO_LONG:
            return _FATAL
        else:
            at += 24 + length * _COUNTED[kind]
    return _WHOLE if at == end > _HEAD else _CUT_OFF
