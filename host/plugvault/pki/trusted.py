"""A user's file of certificates, and TLS that trusts them: in every form that `forms` reads.

Python's own `cafile=` takes PEM alone, and its errors name neither the file nor its content.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from plugvault.pki import forms
from plugvault.pki.forms import FormError


def read(file: Path) -> list[bytes]:
    """DER of every certificate in a file, in their order, at least one. Raises FormError; its
    detail begins with the file."""
    try:
        return forms.certificates(file.read_bytes())
    except OSError as error:
        raise FormError("format", f"{file}: {error.strerror}") from error
    except FormError as error:
        raise FormError("format", f"{file}: {error.detail}; give PEM or DER") from error


def tls_of(file: Path) -> ssl.SSLContext:
    """As `tls`, for the roots in a file. Raises FormError; its detail begins with the file."""
    roots = read(file)
    try:
        return tls(roots)
    except FormError as error:
        raise FormError("format", f"{file}: {error.detail}") from error


def tls(roots: Sequence[bytes]) -> ssl.SSLContext:
    """TLS of a client that trusts these roots, DER, and no others. Raises FormError."""
    if not roots:  # `ssl` would trust this machine's own roots then
        raise FormError("format", "no root")
    try:
        return ssl.create_default_context(cadata=b"".join(roots))
    except ssl.SSLError as error:
        raise FormError("format", "a certificate in it is damaged") from error
