"""One TLS connection at the station's end, sans-I/O: bytes of the wire in and out.

`handshake` signs with the token, so it may take as long as the token does: call it in a thread.
One thread at a time may use a connection.
"""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from plugvault.tls import openssl
from plugvault.tls.errors import TlsError


@dataclass
class Handshake:
    """The facts of one handshake.

    cipher: its suite, "" before the end. trusted_ca_keys: "" when the client sent none, else
    "matched" or "unmatched". ocsp: "" when the client asked for no answer, else "sent" or "none".
    identity: index of the served identity. keys: the lines of the key log; they are secret,
    because they decrypt a capture. failure: the token's error.
    """

    cipher: str = ""
    trusted_ca_keys: str = ""
    ocsp: str = ""
    identity: int = 0
    keys: list[str] = field(default_factory=list, repr=False)
    failure: Exception | None = None


class _Current(threading.local):
    handshake: Handshake | None = None


_current = _Current()


def current() -> Handshake:
    """The handshake that this thread works on."""
    return _current.handshake or Handshake()


@contextmanager
def working_on(handshake: Handshake) -> Iterator[None]:
    """Make a handshake the current one of this thread."""
    openssl.clear_errors()
    _current.handshake = handshake
    try:
        yield
    finally:
        _current.handshake = None


class Connection:
    """One TLS connection. facts: those of its handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.facts = Handshake()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    def feed(self, wire: bytes) -> None:
        """Take bytes from the client. b"": the client has ended the connection."""
        if wire:
            self._in.write(wire)
        else:
            self._in.write_eof()

    def take(self) -> bytes:
        """The bytes for the client. Call it after each call of another method."""
        return self._out.read()

    def handshake(self) -> bool:
        """Continue the handshake. True when it is complete. After an error `take` may have an
        alert.

        Raises TlsError: "handshake", "key".
        """
        with working_on(self.facts):
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLError as error:
                if self.facts.failure is not None:
                    raise TlsError("key", str(self.facts.failure)) from self.facts.failure
                raise TlsError("handshake", _text(error)) from error
        self.facts.cipher = (self._tls.cipher() or ("",))[0]
        return True

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes of plain text; b"" at the end; None when more must be fed first.
        Raises TlsError("handshake")."""
        openssl.clear_errors()
        try:
            return self._tls.read(size)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # An end without close_notify is one too: V2GTP has lengths, so a part would be seen.
            return b""
        except ssl.SSLError as error:
            raise TlsError("handshake", _text(error)) from error

    def write(self, data: bytes) -> None:
        """Encrypt plain text: `take` then has its records. Raises TlsError("handshake")."""
        openssl.clear_errors()
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise TlsError("handshake", _text(error)) from error

    def close(self) -> None:
        """Send close_notify, without waiting for the client's."""
        openssl.clear_errors()
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # without the client's close_notify, or in a handshake
            openssl.clear_errors()


def _text(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
