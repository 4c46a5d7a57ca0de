"""The vault behind a byte stream: the messages, and the client's end of them.

For an interpreter without `ffi`, for CPython, and for a board whose vault is on the bench
computer. The other end is `plugvault.hsm.service`.

A frame is length (2 bytes, of what follows), tag (1), code (1), then fields: length (2) and
bytes. In a request the code is the operation's place in `OPERATIONS`; in an answer it is 0, or
the place of the reason in `VaultError.REASONS` plus one, the detail as the only field. The tag
comes back as it went: an answer that came too late is not taken for the next one's.

What is not in `OPERATIONS` does not exist: there is no raw ECDH, and nothing that answers with a
secret. The stream authenticates (a Unix socket by its owner); the frames do not.
"""

from evcc.errors import EvccError

from . import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPERATIONS = (  # name, number of fields in a request
    ("generate_provisioning_key", 0),
    ("public", 1),
    ("sign", 2),
    ("open_contract_key", 5),
    ("verify", 3),
    ("delete", 1),
    ("keys", 0),
    ("custody", 1),
    ("random", 1),
)
MAX_REQUEST = 1024  # bytes of a frame; the longest request has 252
MAX_ANSWER = 8192
_HEAD = 2
_PIECE = 512  # bytes to read at once
_STALE_PIECES = 16  # more than any answer has
_TIMEOUT_MS = 5000


def pack(tag: int, code: int, fields) -> bytes:
    """One frame."""
    out = bytearray((0, 0, tag, code))
    for field in fields:
        out += len(field).to_bytes(2, "big")
        out += field
    out[:_HEAD] = (len(out) - _HEAD).to_bytes(2, "big")
    return bytes(out)


def unpack(body: bytes) -> tuple:
    """(tag, code, [field]) of a frame without its length. Raises: VaultError("protocol")."""
    if len(body) < 2:
        raise VaultError("protocol", "short frame")
    fields, at = [], 2
    while at < len(body):
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        if at + 2 > len(body) or end > len(body):
            raise VaultError("protocol", "field beyond its frame")
        fields.append(bytes(body[at + 2 : end]))
        at = end
    return body[0], body[1], fields


def frame_size(start: "bytes | bytearray", limit: int) -> int:
    """Bytes of the frame that begins with `start`, its length included; 0: not known yet.

    Raises: VaultError("protocol") over the limit, before anything is kept for it.
    """
    if len(start) < _HEAD:
        return 0
    size = _HEAD + int.from_bytes(start[:_HEAD], "big")
    if size > limit:
        raise VaultError("protocol", "frame of %d bytes" % size)
    return size


def _text(field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeError:
        raise VaultError("protocol", "not UTF-8")


def connect(stream: "Any") -> "ServiceVault":
    """The vault at the other end of `stream`: write(bytes), read(n, timeout_ms) -> bytes, close().

    stream: such a stream; or a function that opens one, which is then called at first use and
    again after a connection is lost: the call that found out raises "unavailable", the next works.
    """
    return ServiceVault(stream)


class ServiceVault:
    """The vault interface (see the package), asked for over a stream."""

    def __init__(self, stream: "Any") -> None:
        self._open = stream if callable(stream) else None
        self._stream: Any = None if callable(stream) else stream
        self._tag = 0

    def generate_provisioning_key(self) -> bytes:
        return self._ask(0)[0]

    def public(self, key: bytes) -> bytes:
        return self._ask(1, key)[0]

    def sign(self, key: bytes, digest: bytes) -> bytes:
        return self._ask(2, key, digest)[0]

    def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public) -> bytes:
        return self._ask(3, scheme.encode(), dh_point, wrapped, aad, expected_public)[0]

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        return self._ask(4, point, digest, signature)[0] == b"\x01"

    def delete(self, key: bytes) -> None:
        self._ask(5, key)

    def keys(self) -> list:
        flat = self._ask(6)
        return [(flat[i], flat[i + 1]) for i in range(0, len(flat) - 1, 2)]

    def custody(self, key: bytes) -> str:
        return _text(self._ask(7, key)[0])

    def random(self, n: int) -> bytes:
        return self._ask(8, bytes((n >> 8 & 255, n & 255)))[0]

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _ask(self, operation: int, *fields: bytes) -> list:
        self._tag = (self._tag + 1) & 255
        request = pack(self._tag, operation, fields)
        if len(request) > MAX_REQUEST:
            raise VaultError("refused", "request of %d bytes" % len(request))
        code, answer = self._exchange(request)
        if code == 0:
            if not answer and OPERATIONS[operation][0] not in ("delete", "keys"):
                raise VaultError("protocol", "an empty answer")
            return answer
        if code > len(VaultError.REASONS):
            raise VaultError("protocol", "answer code %d" % code)
        raise VaultError(VaultError.REASONS[code - 1], _text(answer[0]) if answer else "")

    def _exchange(self, request: bytes) -> tuple:
        """(code, fields) of the answer to `request`; on any failure the stream is given up."""
        try:
            self._connect()
            self._stream.write(request)
            pending = b""
            while True:
                size = frame_size(pending, MAX_ANSWER)
                if not size or len(pending) < size:
                    piece = self._stream.read(_PIECE, _TIMEOUT_MS)
                    if not piece:
                        raise VaultError("unavailable", "no answer from the vault service")
                    pending += piece
                    continue
                tag, code, fields = unpack(pending[_HEAD:size])
                if tag == self._tag:
                    return code, fields
                pending = pending[size:]
        except (EvccError, OSError) as error:  # of the port, or of the answer
            self._give_up()
            if isinstance(error, VaultError):
                raise
            raise VaultError("unavailable", "vault service: " + str(error))

    def _connect(self) -> None:
        """A stream to ask through, with nothing in it that was meant for an earlier request.

        One that broke while nobody asked costs nobody a request.
        """
        if self._stream is not None:
            try:
                for _ in range(_STALE_PIECES):
                    stale = self._stream.read(_PIECE, 0)
                    if not stale or self._open is not None:
                        break
            except (EvccError, OSError):
                stale = b"gone"
            if stale:
                self._give_up()
        if self._stream is None:
            if self._open is None:
                raise VaultError("unavailable", "closed")
            self._stream = self._open()

    def _give_up(self) -> None:
        if self._open is None:
            return  # the only stream there is
        try:
            self.close()
        except (EvccError, OSError):  # it was lost already
            self._stream = None
