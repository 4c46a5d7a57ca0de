"""The reason in words why a server gave no answer.

urllib3 and httpx wrap the errors of sockets and of TLS in their own, whose texts name Python's
classes and lines of C. The inner error has the reason.
"""

import socket
import ssl
from collections.abc import Iterator

# The way out of an unknown root, for the commands that have these options.
TRUST_OPTIONS = "; --trust names it, and --sandbox-trust at a vehicle"
# verify_code of OpenSSL: self-signed, alone or above a chain; no issuer, of any or of the first.
_NO_ROOT = (18, 19, 20, 21)
_MOST = 10  # errors around one another


def reason(error: BaseException, server: str, no_root: str = "") -> str:
    """The reason behind an error of an HTTP library. server: scheme, host and port. no_root: what
    to do about a root that is not trusted."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _refused(cause, server, no_root)
        if isinstance(cause, ssl.SSLError):
            words = (cause.reason or "").replace("_", " ").lower()
            return f"no TLS with {server}: {words or 'the connection ended'}"
        if isinstance(cause, socket.gaierror):
            return f"the host of {server} has no address here: {cause.strerror}"
        if isinstance(cause, TimeoutError):
            return f"no answer of {server} in time"
        if isinstance(cause, ConnectionRefusedError):
            return f"no server at {server}: {cause.strerror}"
        if isinstance(cause, OSError):
            return f"no answer of {server}: {cause.strerror or 'the connection ended'}"
    return f"no answer of HTTP at {server}"


def _refused(error: ssl.SSLCertVerificationError, server: str, no_root: str) -> str:
    if error.verify_code in _NO_ROOT:
        return f"the certificate of {server} leads to no root that is trusted here{no_root}"
    return f"the certificate of {server} is refused: {error.verify_message}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    inner: BaseException | None = error
    for _ in range(_MOST):
        if inner is None:
            return
        yield inner
        inner = inner.__cause__ or inner.__context__
