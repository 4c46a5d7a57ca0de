"""The error of this area."""

from evcc.errors import EvccError


class TlsError(EvccError):
    """TLS with a token's key is not possible here, or a handshake failed.

    "library": this Python's OpenSSL cannot be used; "certificate": OpenSSL refuses it, or it is
    not the key's; "key": the token does not sign; "handshake": the peer's failure.
    """

    REASONS = ("library", "certificate", "key", "handshake")
