"""HTTPS of the server, and the client certificate for the renewal of EST.

A client certificate of one of EST's CAs is optional. uvicorn does not pass it on, so this protocol
class puts its leaf (PEM) where the ASGI TLS extension has it:
`scope["extensions"]["tls"]["client_cert_chain"]`. OpenSSL has checked its path and dates; the
application checks its revocation.

The server's key is in a file that only its owner can read, and not in a token: the TLS library
reads keys from files only. The key serves for nothing else, and each new certificate gets a new
key.
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

RENEWAL = 7 * 86_400  # seconds before its end at which a certificate is replaced
_CERTIFICATE, _CLIENTS = "server.pem", "clients.pem"


def prepare(
    folder: Path,
    issuer: Authority,
    clients: Iterable[Authority],
    hosts: Sequence[str],
    now: float,
) -> bytes | None:
    """Write key, certificate and the clients' CAs into a folder, which is created if missing.

    Return the DER of a certificate that was issued now, or None when the existing one is valid.
    `issuer`: signs it, and clients must trust its root; `clients`: the CAs of client certificates;
    `hosts`: names and addresses of this server. All keys are P-256, for TLS 1.2 and 1.3.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    client_cas = {ca for client in clients for ca in (client.certificate, *client.issuers)}
    _write(folder / _CLIENTS, b"".join(map(_pem, client_cas)))
    if _is_valid(folder / _CERTIFICATE, hosts, now):
        return None
    key = ec.generate_private_key(ec.SECP256R1())
    names = {"O": "plugvault", "CN": hosts[0]}
    certificate = issue("server", names, key.public_key(), issuer, now, hosts=hosts)
    chain = (x509.load_der_x509_certificate(certificate), issuer.certificate, *issuer.issuers[:-1])
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # One file, replaced as a whole, so that key and certificate always belong together.
    _write(folder / _CERTIFICATE, plain + b"".join(map(_pem, chain)))
    return certificate


def options(folder: Path) -> dict[str, Any]:
    """The arguments of `uvicorn.Config` for a folder of `prepare`."""
    return {
        "http": TlsProtocol,
        "ssl_certfile": str(folder / _CERTIFICATE),
        "ssl_ca_certs": str(folder / _CLIENTS),
        "ssl_cert_reqs": ssl.CERT_OPTIONAL,
    }


class TlsProtocol(HttpProtocol):
    """The HTTP protocol, with the client certificate in the ASGI scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        certificate = connection.getpeercert(binary_form=True) if connection else None
        if certificate:
            self.app = _with_certificate(self.app, ssl.DER_cert_to_PEM_cert(certificate))


def _with_certificate(app: Any, certificate: str) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        extension = {"tls": {"client_cert_chain": [certificate]}}
        scope["extensions"] = {**scope.get("extensions", {}), **extension}
        await app(scope, receive, send)

    return wrapped


def _is_valid(file: Path, hosts: Sequence[str], now: float) -> bool:
    if not file.exists():
        return False
    certificate, *above = x509.load_pem_x509_certificates(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    stated = {str(name.value) for name in names}
    are_valid = all(
        each.not_valid_before_utc.timestamp() <= now
        and each.not_valid_after_utc.timestamp() > now + RENEWAL
        for each in (certificate, *above)
    )
    return stated == set(hosts) and are_valid


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _write(file: Path, content: bytes) -> None:
    new = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
    new.replace(file)
