"""The vault behind a byte stream: the messages, and the client's end of them.

For an interpreter without `ffi`, for CPython, and for a board whose vault is on the bench
computer. The other end is `plugvault.vault_service.service`.

A frame is length (2 bytes, of the rest), tag (1), code (1), then fields: length (2) and bytes. In
a request the code is the operation's place in `OPERATIONS`; in an answer it is 0, or the place of
the reason in `VaultError.REASONS` plus one, with the detail as the only field. The answer repeats
the request's tag, 1 to 255: so a late answer is not taken for the next request's. An answer with
tag 0 is for any request: the service refuses all of them, and says why.

The process that has the token can die, and the answer to a request with it. The client then
repeats the request with `AGAIN` set; the service returns the outcome of the first time, if there
was one. For that the client draws the id of the key that `open_contract_key` makes, and asks
whether there is a provisioning key before it requests a new one.

There are no operations but `OPERATIONS`: no raw ECDH, and none that answers with a secret. A Unix
socket authenticates by its owner; for all other streams see `seal`, whose connection begins with
`HELLO`: name and nonce in the request, a nonce in the answer.
"""

import os
import struct

from evcc.errors import EvccError
from evcc.ports import clock

from . import OWNER, PROVISIONING, Vault, VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPERATIONS = (  # name, number of fields in a request
    ("generate_provisioning_key", 1),  # the first field of most operations is the owner
    ("public", 2),
    ("sign", 3),
    ("open_contract_key", 7),  # the owner, the arguments, and the id the key will have
    ("verify", 3),
    ("delete", 2),
    ("keys", 1),
    ("custody", 2),
    ("random", 1),
    ("status", 1),  # the service's limits, for people; in no vault's interface
)
HELLO = 0x7F
LINE = 0x7E  # from a bench: the next bytes are of its line, not of its user
AGAIN = 0x80  # in a request's code: its answer was lost, it may have been carried out
MAX_REQUEST = 1024  # bytes of a frame; the longest request has 298
MAX_ANSWER = 8192
const = int  # MicroPython's compiler replaces the name of a `const` by its number
_HEAD = const(2)
SEAL = 18  # bytes a seal adds
_PIECE = const(512)  # bytes per read
_STALE_PIECES = const(16)  # more than any answer has
_TIMEOUT_MS = const(5000)
_LINE_TIMEOUT_MS = const(2500)  # on a line, which does not report that its other end is gone
_DEADLINE_MS = const(20000)  # of a request in all: else a peer could hold it by single bytes
_POLLS = const(100)  # for an answer, before the process sleeps: some 0.3 ms
_yield = getattr(os, "sched_yield", None)  # not on MicroPython
_ATTEMPTS = const(3)  # of a request, which itself may end the service's process


class _LostError(Exception):
    """A request was sent, and its answer is lost."""


def pack(tag: int, code: int, fields) -> bytes:
    """One frame. tag, code: one byte each. fields: byte strings."""
    if len(fields) == 1:  # almost every answer: this takes half the time
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

    Raises: VaultError("protocol") over the limit, before any of it is buffered.
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


def _unsigned(body: bytes) -> str:
    """The service's reason in an answer for any request. Not authenticated: for a person only."""
    try:
        tag, code, fields = unpack(body)
        if tag or not fields:
            return ""
        hint = ": is its name or its key_file another one?"
        text = "it says " + VaultError.REASONS[code - 1] + ", " + _text(fields[0])
        return text + (hint if VaultError.REASONS[code - 1] == "refused" else "")
    except (VaultError, IndexError):
        return ""


def _fields(operation: int, code: int, fields: list) -> list:
    """The fields of an answer. Raises: VaultError, with the answer's reason."""
    if code == 0:
        if not fields and OPERATIONS[operation][0] not in ("delete", "keys"):
            raise VaultError("protocol", "an empty answer")
        return fields
    if code > len(VaultError.REASONS):
        raise VaultError("protocol", "answer code %d" % code)
    raise VaultError(VaultError.REASONS[code - 1], _text(fields[0]) if fields else "")


def connect(stream: "Any", name: str = "", key: bytes = b"") -> "ServiceVault":
    """The vault at the other end of `stream`: write(bytes), read(n, timeout_ms) -> bytes, close().

    stream: such a stream; or a function that opens one, which is called at first use and again
    after a lost connection. name, key: the client's name and the 32 bytes that it shares with the
    service, where the stream does not authenticate.
    """
    return ServiceVault(stream, name, key)


class ServiceVault(Vault):
    """The vault interface over a stream; the arguments are those of `connect`.

    Every method raises VaultError. A request waits for its answer for 20 s at most, repetitions
    included."""

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
            return self._request(0, self._owner)[0]
        raise VaultError("exists", "the token has a provisioning key")

    def public(self, key: bytes) -> bytes:
        return self._request(1, self._owner, key)[0]

    def sign(self, key: bytes, digest: bytes) -> bytes:
        return self._request(2, self._owner, key, digest)[0]

    def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public, key=b"") -> bytes:
        fields = scheme.encode(), dh_point, wrapped, aad, expected_public, key or os.urandom(16)
        return self._request(3, self._owner, *fields)[0]

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        return self._request(4, point, digest, signature)[0] == b"\x01"

    def delete(self, key: bytes) -> None:
        self._request(5, self._owner, key)

    def keys(self) -> list:
        flat = self._request(6, self._owner)
        return [(flat[i], flat[i + 1]) for i in range(0, len(flat) - 1, 2)]

    def custody(self, key: bytes) -> str:
        return _text(self._request(7, self._owner, key)[0])

    def random(self, n: int) -> bytes:
        return self._request(8, bytes((n >> 8 & 255, n & 255)))[0]

    def close(self) -> None:
        self._seal = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _request(self, operation: int, *fields: bytes) -> list:
        """Fields of the answer; the request is repeated where its answer is lost.

        Connects, sends and receives from here, and not each from the one before: the port below
        needs the rest of a small board's stack.
        """
        size = 4 + sum([2 + len(field) for field in fields])
        if size + SEAL > MAX_REQUEST:
            raise VaultError("refused", "request of %d bytes" % size)
        attempts, code = _ATTEMPTS, operation
        self._until = clock.ticks_ms() + _DEADLINE_MS
        while True:
            try:
                if self._stream is None or (self._key and self._seal is None):
                    self._connect()
                self._send(code, fields)
                answer = self._receive()
                break
            except VaultError:
                self._disconnect()
                raise
            except (_LostError, EvccError, OSError) as error:  # of the port
                self._disconnect()
                attempts -= 1
                is_lost = isinstance(error, _LostError) or self._open is not None
                if not attempts or not is_lost:
                    raise VaultError("unavailable", "vault service: " + str(error))
                code = operation | AGAIN
        return _fields(operation, *answer)

    def _send(self, code: int, fields: tuple) -> None:
        self._tag = self._tag % 255 + 1
        request = pack(self._tag, code, fields)
        if self._seal is not None:
            request = self._seal.seal(request)
        if self._open is None:
            self._skip_stale()
        try:
            self._stream.write(request)
        except (EvccError, OSError):
            pass  # broken: reading reports it, or the service's last answer, which says why

    def _receive(self) -> tuple:
        """(code, fields) of the next answer that is not a late one."""
        pending = b""
        timeout = _TIMEOUT_MS if self._open else _LINE_TIMEOUT_MS
        while True:
            size = frame_size(pending, MAX_ANSWER)
            if not size or len(pending) < size:
                left = self._until - clock.ticks_ms()
                piece = b""
                if left > 0:
                    piece = self._poll() or self._stream.read(_PIECE, min(timeout, left))
                if not piece:
                    self._time_out()
                pending += piece
                continue
            tag, code, fields = unpack(self._unsealed(pending[_HEAD:size]))
            if tag == self._tag or not tag:
                return code, fields
            pending = pending[size:]

    def _poll(self) -> bytes:
        """An answer that comes soon, or b"". To be woken takes as long as a signature, so the
        client polls first, as the service does for requests, and yields to other processes."""
        if _yield and self._open:
            for _ in range(_POLLS):
                piece = self._stream.read(_PIECE, 0)
                if piece:
                    return piece
                _yield()
        return b""

    def _time_out(self) -> None:
        """A connection reports that its service is lost; a line does not."""
        self._disconnect()
        if self._open is None:
            raise _LostError("no answer")
        raise VaultError("unavailable", "no answer from the vault service")

    def _unsealed(self, body: bytes) -> bytes:
        if self._seal is None:
            return body
        try:
            return self._seal.unseal(body)
        except VaultError as error:
            if self._open is None:  # a restarted service answers, and has no seal yet
                self._disconnect()
                raise _LostError(_unsigned(body) or str(error))
            raise

    def _connect(self) -> None:
        """Open the stream, if there is none, and authenticate the service."""
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
        self._send(HELLO, (self._name, nonce))
        code, fields = self._receive()
        if code or len(fields) != 1 or len(fields[0]) != seal.NONCE:
            self._disconnect()  # the sender has not proved to be the service
            raise VaultError("unavailable", "vault service: no greeting")
        self._seal = seal.Seal(self._key, self._name, nonce + fields[0], True)

    def _skip_stale(self) -> None:
        """Drop the rest of a late answer from the only stream there is."""
        for _ in range(_STALE_PIECES):
            if not self._stream.read(_PIECE, 0):
                break

    def _disconnect(self) -> None:
        self._seal = None
        if self._open is None:
            return  # the only stream there is
        try:
            self.close()
        except (EvccError, OSError):  # already lost
            self._stream = None
