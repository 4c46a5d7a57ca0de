"""The vault behind a byte stream: the messages, and the client's end of them.

For an interpreter without `ffi`, for CPython, and for a board whose vault is on the bench
computer. The other end is `plugvault.vault_service.service`.

A frame is length (2 bytes, of what follows), tag (1), code (1), then fields: length (2) and
bytes. In a request the code is the operation's place in `OPERATIONS`; in an answer it is 0, or
the place of the reason in `VaultError.REASONS` plus one, the detail as the only field. The tag
comes back as it went, 1 to 255: an answer that came too late is not taken for the next one's.
An answer with tag 0 is for whatever was asked: there is nobody to answer, and why.

The process that has the token can die, the answer to a request with it. The client asks again and
says so (`AGAIN`); the service then gives the outcome of the first time, if there was one. What
makes that possible: the client draws the id of the key that `open_contract_key` makes, and asks
whether there is a provisioning key before it has one made.

What is not in `OPERATIONS` does not exist: there is no raw ECDH, and nothing that answers with a
secret. A Unix socket authenticates by its owner; for any other way see `seal`, whose connection
begins with `HELLO`: name and nonce there, a nonce back.
"""

import os
import struct

from evcc.errors import EvccError

from . import OWNER, PROVISIONING, VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPERATIONS = (  # name, number of fields in a request
    ("generate_provisioning_key", 1),  # whose key: the owner is the first field of most
    ("public", 2),
    ("sign", 3),
    ("open_contract_key", 7),  # the owner, the arguments, and the id the key will have
    ("verify", 3),
    ("delete", 2),
    ("keys", 1),
    ("custody", 2),
    ("random", 1),
    ("status", 1),  # what the service allows; for people, and in no vault's interface
)
HELLO = 0x7F
AGAIN = 0x80  # in a request's code: the answer to it was lost, it may have been done
MAX_REQUEST = 1024  # bytes of a frame; the longest request has 298
MAX_ANSWER = 8192
_HEAD = 2
SEAL = 18  # bytes a seal adds
_PIECE = 512  # bytes to read at once
_STALE_PIECES = 16  # more than any answer has
_TIMEOUT_MS = 5000
_LINE_TIMEOUT_MS = 2500  # of silence on a line, where nothing tells that the answer was lost
_LOOKS = 100  # for an answer, before going to sleep: some 0.3 ms
_yield = getattr(os, "sched_yield", None)  # not on MicroPython
_SENDS = 3  # of a request: it may be the request itself that the service dies of


class _LostError(Exception):
    """A request was sent, and its answer will not come."""


def pack(tag: int, code: int, fields) -> bytes:
    """One frame."""
    if len(fields) == 1:  # as in almost every answer: in half the time
        size = len(fields[0])
        return struct.pack(">HBBH", size + 4, tag, code, size) + fields[0]
    body = b""
    for field in fields:
        body += struct.pack(">H", len(field)) + field
    return struct.pack(">HBB", len(body) + 2, tag, code) + body


def unpack(body: bytes) -> tuple:
    """(tag, code, [field]) of a frame without its length. Raises: VaultError("protocol")."""
    fields, at, end = [], 2, len(body)
    try:
        while at < end:
            start = at + 2
            at = start + (body[at] << 8 | body[at + 1])
            fields.append(body[start:at])
        if at == end:
            return body[0], body[1], fields
    except IndexError:
        pass
    raise VaultError("protocol", "field beyond its frame")


def frame_size(start: "bytes | bytearray", limit: int) -> int:
    """Bytes of the frame that begins with `start`, its length included; 0: not known yet.

    Raises: VaultError("protocol") over the limit, before anything is kept for it.
    """
    if len(start) < _HEAD:
        return 0
    size = _HEAD + (start[0] << 8 | start[1])
    if size > limit:
        raise VaultError("protocol", "frame of %d bytes" % size)
    return size


def _text(field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeError:
        raise VaultError("protocol", "not UTF-8")


def connect(stream: "Any", name: str = "", key: bytes = b"") -> "ServiceVault":
    """The vault at the other end of `stream`: write(bytes), read(n, timeout_ms) -> bytes, close().

    stream: such a stream; or a function that opens one, which is then called at first use and
    again after a connection is lost. name, key: the client's name and the 32 bytes it shares with
    the service, where the stream does not authenticate.
    """
    return ServiceVault(stream, name, key)


class ServiceVault:
    """The vault interface (see the package), asked for over a stream."""

    def __init__(self, stream: "Any", name: str = "", key: bytes = b"") -> None:
        self._open = stream if callable(stream) else None
        self._stream: Any = None if callable(stream) else stream
        self._tag = 0
        self._name = name.encode()
        self._key = key
        self._seal: Any = None
        self._owner = b""

    def claim(self, owner: bytes) -> None:
        if len(owner) not in (0, OWNER):
            raise VaultError("refused", "an owner has %d bytes, or none" % OWNER)
        self._owner = owner

    def generate_provisioning_key(self) -> bytes:
        try:
            self.public(PROVISIONING)
        except VaultError as error:
            if error.reason != "not-found":
                raise
            return self._ask(0, self._owner)[0]
        raise VaultError("exists", "the token has a provisioning key")

    def public(self, key: bytes) -> bytes:
        return self._ask(1, self._owner, key)[0]

    def sign(self, key: bytes, digest: bytes) -> bytes:
        return self._ask(2, self._owner, key, digest)[0]

    def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public, key=b"") -> bytes:
        fields = scheme.encode(), dh_point, wrapped, aad, expected_public, key or os.urandom(16)
        return self._ask(3, self._owner, *fields)[0]

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        return self._ask(4, point, digest, signature)[0] == b"\x01"

    def delete(self, key: bytes) -> None:
        self._ask(5, self._owner, key)

    def keys(self) -> list:
        flat = self._ask(6, self._owner)
        return [(flat[i], flat[i + 1]) for i in range(0, len(flat) - 1, 2)]

    def custody(self, key: bytes) -> str:
        return _text(self._ask(7, self._owner, key)[0])

    def random(self, n: int) -> bytes:
        return self._ask(8, bytes((n >> 8 & 255, n & 255)))[0]

    def close(self) -> None:
        self._seal = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _ask(self, operation: int, *fields: bytes) -> list:
        code, answer = self._asked(operation, fields)
        if code == 0:
            if not answer and OPERATIONS[operation][0] not in ("delete", "keys"):
                raise VaultError("protocol", "an empty answer")
            return answer
        if code > len(VaultError.REASONS):
            raise VaultError("protocol", "answer code %d" % code)
        raise VaultError(VaultError.REASONS[code - 1], _text(answer[0]) if answer else "")

    def _asked(self, code: int, fields: tuple) -> tuple:
        """(code, fields) of the answer, asked for again when it was lost."""
        left = _SENDS
        while True:
            left -= 1
            try:
                if self._stream is None or (self._key and self._seal is None):
                    self._connect()
                return self._exchange(code, fields)
            except _LostError as error:
                if not left:
                    raise VaultError("unavailable", "vault service: " + str(error))
                code |= AGAIN

    def _exchange(self, code: int, fields: tuple) -> tuple:
        """(code, fields) of the answer to one request; on any failure the stream is given up."""
        self._tag = self._tag % 255 + 1
        size = 4 + sum([2 + len(field) for field in fields])
        if size + SEAL > MAX_REQUEST:
            raise VaultError("refused", "request of %d bytes" % size)
        request = pack(self._tag, code, fields)
        if self._seal is not None:
            request = self._seal.seal(request)
        try:
            if self._open is None:
                self._skip_stale()
            try:
                self._stream.write(request)
            except (EvccError, OSError):
                pass  # it is broken, as reading will tell; or there is a word why
            return self._answer()
        except (EvccError, OSError) as error:  # of the port, or of the answer
            self._give_up()
            if isinstance(error, VaultError):
                raise
            if self._open is None:
                raise VaultError("unavailable", "vault service: " + str(error))
            raise _LostError(str(error))

    def _answer(self) -> tuple:
        """(code, fields) of the next answer that is not too late."""
        pending = b""
        wait = _TIMEOUT_MS if self._open else _LINE_TIMEOUT_MS
        while True:
            size = frame_size(pending, MAX_ANSWER)
            if not size or len(pending) < size:
                piece = self._soon() or self._stream.read(_PIECE, wait)
                if not piece:
                    self._silence()
                pending += piece
                continue
            tag, code, fields = unpack(self._unsealed(pending[_HEAD:size]))
            if tag == self._tag or not tag:
                return code, fields
            pending = pending[size:]

    def _soon(self) -> bytes:
        """What comes at once. To be woken takes as long as a signature does; so look for it
        first, as the service does for the next request, and let whoever has work work."""
        if _yield and self._open:
            for _ in range(_LOOKS):
                piece = self._stream.read(_PIECE, 0)
                if piece:
                    return piece
                _yield()
        return b""

    def _silence(self) -> None:
        """A connection tells when its service is lost; a line does not."""
        self._give_up()
        if self._open is None:
            raise _LostError("no answer")
        raise VaultError("unavailable", "no answer from the vault service")

    def _unsealed(self, body: bytes) -> bytes:
        if self._seal is None:
            return body
        try:
            return self._seal.unseal(body)
        except VaultError as error:
            if self._open is None:  # a service that started again answers, and knows no seal yet
                self._give_up()
                raise _LostError(str(error))
            raise

    def _connect(self) -> None:
        """Open the stream, if there is none, and know who is there."""
        if self._stream is None:
            if self._open is None:
                raise VaultError("unavailable", "closed")
            try:
                self._stream = self._open()
            except (EvccError, OSError) as error:
                raise VaultError("unavailable", "vault service: " + str(error))
        if not self._key:
            return
        from . import seal

        nonce = os.urandom(seal.NONCE)
        code, fields = self._exchange(HELLO, (self._name, nonce))
        if code or len(fields) != 1 or len(fields[0]) != seal.NONCE:
            self._give_up()  # whoever says so has not proved to be the service
            raise VaultError("unavailable", "vault service: no greeting")
        self._seal = seal.Seal(self._key, self._name, nonce + fields[0], True)

    def _skip_stale(self) -> None:
        """The rest of a late answer lies in the only stream there is."""
        for _ in range(_STALE_PIECES):
            if not self._stream.read(_PIECE, 0):
                break

    def _give_up(self) -> None:
        self._seal = None
        if self._open is None:
            return  # the only stream there is
        try:
            self.close()
        except (EvccError, OSError):  # it was lost already
            self._stream = None
