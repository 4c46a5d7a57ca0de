"""SoftHSM's differences from PKCS#11: the files of its tokens.

SoftHSM rewrites a file in place: it empties it, then writes. At every login that file is
`token.object`, and SoftHSM does not list a token whose `token.object` is empty or cut off: the
token is lost with all its keys. So after each login the file is copied to `token.kept`, a name
that SoftHSM ignores, and the copy is put back when the original is not whole. It holds what was
there; nothing is initialised. A PIN that another program has changed since is the old one again.
When the original has changed, the former copy becomes `token.before`: a damaged bit in the
original can look to SoftHSM like another PIN, and only a person can tell the two apart.

A length in a file that no file has makes SoftHSM end its process while it lists the objects. Such
a file is renamed, X.object to X.damaged: one key is missing then, not all of them. SoftHSM also
ends its process where two slots get the same number: a slot's number is the last digits of its
token's serial number, up to the first character that is no digit, and the empty slot's is the
number of tokens. A token whose serial number is damaged that way is renamed and put back likewise.
Which of two copies of one token is to stay, only a person can tell.

A file that is only empty or cut off is not renamed: it may be one that SoftHSM is writing.

SoftHSM flushes nothing: a power cut within seconds loses a key that it has acknowledged, and the
contract store, which flushes, would name a key that is not there. So its files are flushed.

On a full disk SoftHSM may acknowledge a key that is in its memory only, and otherwise leaves empty
files behind. So the free space is checked first.
"""

import os
import struct

from evcc.errors import EvccError
from evcc.ports.files import Files, flush_path

from . import VaultError
from .backend import TokenFiles

_TOKEN, _BACKUP, _FORMER_BACKUP = "token.object", "token.kept", "token.before"
_ROOM = 65536  # bytes; a contract key takes two files and their locks
_HEAD = 8  # a generation: a file's, one more for each writing, or the token's
_TOO_LONG = 1 << 20
_WHOLE, _CUT_OFF, _FATAL = 0, 1, 2
_FIXED = {1: 1, 2: 8}  # size by kind of attribute: a bool, a number
_COUNTED = {3: 1, 4: 1, 5: 8}  # size of what the count counts: bytes, bytes, mechanisms
_SERIAL = struct.pack(">QQ", 0x8000534A, 3)  # type and kind of that attribute


def token_folder(conf) -> "str | None":
    """directories.tokendir of the configuration file `conf`; None: it is not SoftHSM's."""
    try:
        with open(conf or "", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == "directories.tokendir":
            return value.strip()
    return None


def trouble(conf) -> str:
    """The fault in the configuration file `conf` that prevents SoftHSM's start; "" for none."""
    try:
        with open(conf or "", encoding="utf-8"):
            pass
    except OSError:
        return "its configuration cannot be read: %s; SOFTHSM2_CONF names the file" % conf
    folder = token_folder(conf)
    if not folder:
        return "%s has no line directories.tokendir" % conf
    try:
        os.listdir(folder)
    except OSError:
        return "its folder of tokens cannot be read: %s, named in %s" % (folder, conf)
    return ""


class SoftHsmFiles(TokenFiles):
    """The files of SoftHSM's tokens. folder: of all tokens."""

    # SoftHSM writes the file of a created object some thirty times, half an object each time but
    # the last; of a copied object, three times.
    creates_by_copy = True

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def repair(self) -> None:
        """Raises VaultError("unavailable") where two tokens have one serial number."""
        tokens, slots = self._tokens(), {}
        for token in tokens:
            try:
                _repair_token(token, len(tokens))
            except (OSError, EvccError):
                pass  # no right to do it, no room: the library reports what it cannot do
            slot = _slot(_read(token + "/" + _TOKEN))
            if slot in slots:
                text = "one serial number for two tokens: move away either %s or %s"
                raise VaultError("unavailable", text % (slots[slot], token))
            if slot >= 0:
                slots[slot] = token

    def back_up(self, label: str) -> None:
        for token in self._tokens(label):
            data = _read(token + "/" + _TOKEN)
            if _state(data) != _WHOLE:
                continue
            try:
                backup = _read(token + "/" + _BACKUP)
                if backup[_HEAD:] != data[_HEAD:]:
                    if backup:
                        os.rename(token + "/" + _BACKUP, token + "/" + _FORMER_BACKUP)
                    _write(token, _BACKUP, data)
            except (OSError, EvccError):
                pass  # a token on a full disk can still be used

    def check_room(self) -> None:
        disk = os.statvfs(self._folder)  # fragment size at 1, blocks available at 4, flags at 8
        if disk[8] & 1:
            raise VaultError("full", "the disk of the token is read-only: " + self._folder)
        if disk[1] * disk[4] < _ROOM:
            raise VaultError("full", "no room on the disk of the token: " + self._folder)

    def flush(self, label: str) -> None:
        for token in self._tokens(label):
            for name in os.listdir(token):
                if name.endswith(".object"):
                    flush_path(token + "/" + name)
            flush_path(token)

    def reload(self, label: str) -> None:
        """Make every process's SoftHSM read the token's folder again.

        SoftHSM does so when the number in `generation` differs from the one it remembers, and adds
        one for a change of its own. Of two processes that change the token at once, the second
        therefore takes the number of both for its own, and never sees the first one's change. A
        random number is new to both. It needs no lock: a number that SoftHSM writes over it is new
        as well.
        """
        for token in self._tokens(label):
            try:
                with open(token + "/generation", "r+b") as file:
                    file.write(os.urandom(_HEAD))
            except OSError:
                pass  # missing: SoftHSM reads every time; read-only: nothing changes

    def _tokens(self, label: str = "") -> list:
        """The folders of all tokens, or of those with that label."""
        try:
            tokens = [self._folder + "/" + name for name in os.listdir(self._folder)]
        except OSError:
            return []
        if not label:
            return tokens
        padded = label.encode()
        padded += b" " * (32 - len(padded))
        return [token for token in tokens if padded in _read(token + "/" + _TOKEN)]


def _repair_token(token: str, empty_slot: int) -> None:
    """Rename what ends SoftHSM's process, and put the backup back where it is needed."""
    for name in os.listdir(token):
        if not name.endswith(".object"):
            continue
        data = _read(token + "/" + name)
        if _state(data) == _FATAL or (name == _TOKEN and 0 < _slot(data) <= empty_slot):
            os.rename(token + "/" + name, token + "/" + name[:-6] + "damaged")
    backup = _read(token + "/" + _BACKUP)
    data = _read(token + "/" + _TOKEN)
    # A file that is cut off between two attributes looks whole, but is shorter than its copy.
    is_short = len(data) < len(backup) and backup[_HEAD:].startswith(data[_HEAD:])
    if backup and (is_short or _state(data) != _WHOLE):
        _write(token, _TOKEN, backup)


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
    """The number of the slot of the token with this file; -1: none."""
    at = data.find(_SERIAL)
    if at < 0 or _state(data) != _WHOLE:
        return -1
    at += 24
    serial = data[at : at + int.from_bytes(data[at - 8 : at], "big")]
    digits = serial[-8:].lower().lstrip(b" \t\n\v\f\r+")  # like C's strtoul
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
        if kind in _FIXED:
            at += 16 + _FIXED[kind]
        elif kind not in _COUNTED or at + 24 > end:
            return _CUT_OFF
        elif length > _TOO_LONG:
            return _FATAL
        else:
            at += 24 + length * _COUNTED[kind]
    return _WHOLE if at == end > _HEAD else _CUT_OFF
