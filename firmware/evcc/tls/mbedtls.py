"""TLS by MicroPython's own `tls` (Mbed TLS).

It has no OCSP and no trusted_ca_keys, and shows certificates only to `verify_callback`, root
first. Its own path check needs a name that a car cannot know beforehand, so it is set to
CERT_OPTIONAL, and `Peer` decides within the callback. It does not report the end of a handshake:
the module finds that in the records of the station.
"""

import errno
import io

import tls

from . import SUITE, Client, TlsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SUITE = "TLS-ECDHE-ECDSA-WITH-AES-128-CBC-SHA256"
_REFUSED = -1  # a positive number would not end the handshake
_CHANGE_CIPHER_SPEC = 20
_RECORD_HEADER = 5
_PIECE = 4096


class _Records:
    """Finds the end of the station's half of a handshake: the record after ChangeCipherSpec.

    A ChangeCipherSpec counts only after the chain is judged: before that an attacker can send
    one."""

    def __init__(self) -> None:
        self.is_finished = False
        self._is_changed = False
        self._head = b""
        self._left = 0  # bytes of the record that are still to come

    def add(self, data: bytes, is_judged: bool) -> None:
        at = 0
        while at < len(data) and not self.is_finished:
            missing = _RECORD_HEADER - len(self._head)
            if missing:
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) < _RECORD_HEADER:
                    return
                self._left = self._head[3] << 8 | self._head[4]
            taken = min(self._left, len(data) - at)
            at += taken
            self._left -= taken
            if not self._left:
                self.is_finished = self._is_changed
                self._is_changed = is_judged and self._head[0] == _CHANGE_CIPHER_SPEC
                self._head = b""


class _Ciphertext(io.IOBase):
    """The stream below Mbed TLS."""

    def __init__(self) -> None:
        self.received = b""
        self.to_send = b""
        self.is_ended = False

    def readinto(self, buffer):
        if not self.received:
            return 0 if self.is_ended else None
        size = min(len(buffer), len(self.received))
        buffer[:size] = self.received[:size]
        self.received = self.received[size:]
        return size

    def write(self, data):
        self.to_send += bytes(data)
        return len(data)

    def ioctl(self, request, argument):
        return 0


class MbedtlsClient(Client):
    """`Client` on MicroPython's `tls`. peer: see `client`. Raises: TlsError("unavailable")."""

    checks_revocation = False

    def __init__(self, peer) -> None:
        if peer.needs_ocsp:
            raise TlsError("unavailable", "OCSP is required, and this MicroPython's TLS has none")
        self._peer = peer
        self._chain: list = []  # leaf first
        self._records = _Records()
        self._stream = _Ciphertext()
        self._plain = b""
        context: "Any" = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_OPTIONAL
        context.verify_callback = self._verify
        context.set_ciphers([_SUITE])
        self._tls = context.wrap_socket(self._stream, do_handshake_on_connect=False)

    def _verify(self, certificate, depth: int) -> int:
        self._chain.insert(0, bytes(certificate))
        if depth:
            return 0
        try:
            chain, self._chain = self._chain, []
            if self._peer.accepts_chain(chain) and self._peer.accepts_answer(None):
                return 0
        except Exception as error:  # noqa: BLE001 - it must not pass through C
            self._peer.error = TlsError("certificate", type(error).__name__)
            self._peer.leaf = None
        return _REFUSED

    def handshake(self) -> bool:
        data = self._read(1, "handshake")  # drives the handshake
        if data is not None:
            self._plain += data
        if not self._records.is_finished or self._stream.received:
            return False
        if self._peer.leaf is None:
            raise TlsError("certificate", "the station sent none")
        self.suite = SUITE  # the only one on offer
        return True

    def incoming(self, data: bytes) -> None:
        if data:
            self._records.add(data, self._peer.leaf is not None)
            self._stream.received += data
        else:
            self._stream.is_ended = True

    def outgoing(self) -> bytes:
        data, self._stream.to_send = self._stream.to_send, b""
        return data

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                size = self._tls.write(view)
            except OSError as error:
                raise TlsError("closed", "errno %s" % error.errno)
            if not size:
                raise TlsError("closed", "no record can be written")
            view = view[size:]

    def read(self) -> bytes:
        data, self._plain = self._plain, b""
        return data or self._read(_PIECE, "closed") or b""

    def _read(self, size: int, reason: str):
        """At most `size` bytes of plain text; None: more ciphertext is needed."""
        try:
            data = self._tls.read(size)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise self._peer.error or TlsError(reason, "errno %s" % error.errno)
        if data == b"":
            raise TlsError(reason, "the station has closed the connection")
        return data

    def close(self) -> None:
        try:
            self._tls.close()
        except OSError:
            pass
