"""HTTPS for the face, and the client's certificate for who wants it (EST's renewal).

A client may show a certificate that one of EST's CAs has issued; none is asked for. uvicorn keeps
the certificate to itself, so the protocol here puts it where the ASGI TLS extension has it:
`scope["extensions"]["tls"]["client_cert_chain"]`, PEM, the leaf. OpenSSL has checked its path
and dates; whether it is revoked is the application's question.

The server's key is in a file, which its owner alone can read, and not in a token: the TLS library
takes keys from files only. It opens nothing but this door, and is made anew with its certificate.
"""

import asyncio
import os
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.types import ASGIApp, Receive, Scope, Send

from plugvault.opcp.protocol import HttpProtocol
from plugvault.pki.issue import Authority, issue

SOON = 7 * 86_400  # seconds before its end a certificate is made anew
_CERTIFICATE, _CLIENTS = "server.pem", "clients.pem"


def prepare(
    folder: Path,
    issuer: Authority,
    clients: Iterable[Authority],
    hosts: Sequence[str],
    now: float,
) -> bytes | None:
    """Put key, certificate and the clients' CAs into a folder, made when missing. The DER of a
    certificate that was issued now; None where the one that is there still holds.

    `issuer`: signs it, so clients need to trust its root; `clients`: whose leaves may be shown;
    `hosts`: names and addresses of this server. Of P-256 all: TLS 1.2 and 1.3.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    above = {certificate for one in clients for certificate in (one.certificate, *one.issuers)}
    _write(folder / _CLIENTS, b"".join(map(_pem, above)))
    if _holds(folder / _CERTIFICATE, hosts, now):
        return None
    key = ec.generate_private_key(ec.SECP256R1())
    names = {"O": "plugvault", "CN": hosts[0]}
    made = issue("server", names, key.public_key(), issuer, now, hosts=hosts)
    chain = (x509.load_der_x509_certificate(made), issuer.certificate, *issuer.issuers[:-1])
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # In one file, put in place whole: a key never stands beside another's certificate.
    _write(folder / _CERTIFICATE, plain + b"".join(map(_pem, chain)))
    return made


def options(folder: Path) -> dict[str, Any]:
    """What `uvicorn.Config` needs to serve with what `prepare` has put there."""
    return {
        "http": TlsProtocol,
        "ssl_certfile": str(folder / _CERTIFICATE),
        "ssl_ca_certs": str(folder / _CLIENTS),
        "ssl_cert_reqs": ssl.CERT_OPTIONAL,
    }


class TlsProtocol(HttpProtocol):
    """Ours, which also tells the application who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        shown = connection.getpeercert(binary_form=True) if connection else None
        if shown:
            self.app = _told(self.app, ssl.DER_cert_to_PEM_cert(shown))


def _told(app: Any, certificate: str) -> ASGIApp:
    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        extension = {"tls": {"client_cert_chain": [certificate]}}
        scope["extensions"] = {**scope.get("extensions", {}), **extension}
        await app(scope, receive, send)

    return told


def _holds(file: Path, hosts: Sequence[str], now: float) -> bool:
    if not file.exists():
        return False
    certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    written = {str(one.value) for one in names}
    return written == set(hosts) and certificate.not_valid_after_utc.timestamp() > now + SOON


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _write(file: Path, content: bytes) -> None:
    new = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
    new.replace(file)
