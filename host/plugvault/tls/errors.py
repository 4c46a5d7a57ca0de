"""The error of TLS at the station."""

from evcc.errors import EvccError


class TlsError(EvccError):
    """TLS with a token's key is not possible here, or a handshake failed.

    "library": this Python's OpenSSL cannot be used; "certificate": OpenSSL refuses the
    certificate, or it does not belong to the key; "key": the token does not sign; "handshake": a
    failure of the peer.
    """

    REASONS = ("library", "certificate", "key", "handshake")
