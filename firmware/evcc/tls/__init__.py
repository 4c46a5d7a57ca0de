"""TLS 1.2 from car to station [ISO 15118-2, 7.7.3]: one interface, three libraries behind it.

    cpython   CPython's `ssl`, and its libssl by ctypes
    libssl    the system's libssl, by MicroPython's `ffi`
    mbedtls   MicroPython's own `tls`: without OCSP and trusted_ca_keys

One cipher suite, `SUITE`, one curve, no client certificate, no resumption. The library shows that
the station has its certificate's key; whether the certificate is to be trusted is decided by
`peer.Peer` alone, during the handshake. Sans-I/O: ciphertext in and out.

Not on a board: a vehicle computer has the network, and does TLS for it.
"""

import sys

from evcc.errors import EvccError

SUITE = "ECDHE-ECDSA-AES128-SHA256"
LIBRARIES = ("cpython", "libssl", "mbedtls")


class TlsError(EvccError):
    """A connection that cannot be secured, or was closed."""

    REASONS = (
        "unavailable",  # no library here can do it
        "certificate",  # the station's chain is refused
        "revocation",  # its OCSP answer is refused, or is missing and required
        "handshake",  # protocol, cipher suite, an alert of the station
        "closed",  # by the station, or by a broken record
    )


class Client:
    """The interface of the three, over one connection.

    Each call may raise TlsError. After one the connection is closed, once what `outgoing` still
    holds, an alert, has been sent.
    """

    suite = ""  # the cipher suite, as OpenSSL names it, after the handshake
    checks_revocation = True  # whether OCSP is possible

    def handshake(self) -> bool:
        """Continue the handshake; True when it is done and the station's chain is accepted."""
        raise NotImplementedError

    def incoming(self, data: bytes) -> None:
        """Ciphertext from the station; b"": the station has closed the connection."""
        raise NotImplementedError

    def outgoing(self) -> bytes:
        """The ciphertext to send now, each byte once."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Encrypt `data`; `outgoing` returns the records."""
        raise NotImplementedError

    def read(self) -> bytes:
        """The plain text that has arrived; b"": none yet. Raises: TlsError("closed")."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection: `outgoing` returns the last alert."""
        raise NotImplementedError

    def free(self) -> None:
        """Free the library's memory; no other method may be called after it."""


def client(peer, library: str = "", keylog=None) -> Client:
    """A client for one connection. peer: `peer.Peer`. library: of `LIBRARIES`; "": the best one
    that this interpreter has. keylog: called with each line of a key log (the format of
    SSLKEYLOGFILE), for a capture; never in a car. Raises: TlsError("unavailable")."""
    if library:
        return _OPEN[library](peer, keylog)
    if sys.implementation.name == "cpython":
        return _open_cpython(peer, keylog)
    try:
        return _open_libssl(peer, keylog)
    except TlsError:
        return _open_mbedtls(peer, keylog)


def _open_cpython(peer, keylog):
    from . import cpython

    return cpython.SslClient(peer, keylog)


def _open_libssl(peer, keylog):
    try:
        from . import libssl
    except ImportError:
        raise TlsError("unavailable", "this MicroPython has no ffi")
    return libssl.LibsslClient(peer, keylog)


def _open_mbedtls(peer, keylog):
    try:
        from . import mbedtls
    except ImportError:
        raise TlsError("unavailable", "this MicroPython has no TLS")
    return mbedtls.MbedtlsClient(peer)  # it has no key log


_OPEN = {"cpython": _open_cpython, "libssl": _open_libssl, "mbedtls": _open_mbedtls}
