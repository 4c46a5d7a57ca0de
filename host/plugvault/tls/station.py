"""The certificates of a station, and TLS 1.2 of ISO 15118-2 with their keys in a token.

ISO 15118-2:2014, 7.7.3: TLS 1.2, ECDHE-ECDSA-AES128-SHA256 on P-256, no client certificate. The
client may name the roots that it trusts (trusted_ca_keys, RFC 6066): it gets the path under one of
them if the station has one, else the first path. The static ECDH suite of the standard is no
longer in OpenSSL.
"""

import hashlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from evcc import chain
from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.tls import openssl
from plugvault.tls.connection import Connection, Handshake, current, working_on
from plugvault.tls.errors import TlsError
from plugvault.tls.openssl import Sign

SUITE = "ECDHE-ECDSA-AES128-SHA256"
_PRE_AGREED, _KEY_HASH, _NAME, _CERTIFICATE_HASH = range(4)  # IdentifierType


def _no_answer() -> None:
    return None


@dataclass(frozen=True)
class Identity:
    """A station's certificate with its path, and its key.

    leaf, subs, root: DER, Sub2 first. sign: SHA-256 digest -> r‖s, as `TokenKey.sign_digest`.
    staple(): the current OCSP answer about the leaf, DER, or None [`stapling.Staple`].
    """

    leaf: bytes
    subs: tuple[bytes, ...]
    root: bytes
    sign: Sign
    staple: Callable[[], bytes | None] = _no_answer

    def check(self, now: float) -> None:
        """Check the path as a vehicle does. now: Unix seconds. Raises TlsError("certificate")."""
        try:
            path.validate(self.leaf, self.subs, [self.root], chain.CPO, now)
        except CertificateError as error:
            raise TlsError("certificate", f"a vehicle would refuse it: {error}") from error


class StationTls:
    """TLS for every connection of a station. Safe to use from several threads.

    identities: the first one is for clients that name no root, or no root of an identity. The
    constructor makes a handshake in memory with each key. Raises TlsError: "library",
    "certificate", "key".
    """

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._served = _Served(identities)

    def connection(self) -> Connection:
        """A new connection, at the station's end."""
        return Connection(self._served.contexts[0])

    def replace(self, leaf: bytes, identity: Identity) -> None:
        """Serve an identity in place of the one with this leaf (DER), from the next connection on.

        Raises as the constructor; the old identities stay then.
        """
        identities = [identity if it.leaf == leaf else it for it in self._served.identities]
        self._served = _Served(identities)


class _Served:
    """Identities, and a context for each. Raises as `StationTls`."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        if not identities:
            raise ValueError("no identity")
        self.identities = identities
        self._choice = _Choice(identities)
        self.contexts = [self._context(identity) for identity in identities]
        for identity, context in zip(identities, self.contexts, strict=True):
            _try(context, identity)

    def _context(self, identity: Identity) -> ssl.SSLContext:
        openssl.clear_errors()
        context = _tls12(ssl.PROTOCOL_TLS_SERVER)
        # A ticket resumes a session, and a resumed one shows the client no certificate. OpenSSL 3
        # itself refuses a client's renegotiation.
        context.options |= ssl.OP_NO_TICKET
        context.set_ecdh_curve("prime256v1")
        openssl.restrict(context)
        openssl.use_key(context, (identity.leaf, *identity.subs), _reporting(identity.sign))
        choice = self._choice
        openssl.call(context, openssl.Hooks(choice.staple, choice.make, _is_matched, _keep_key))
        context.sni_callback = self._switch
        return context

    def _switch(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        """Called after the client's extensions are read, with and without a server name."""
        if identity := current().identity:
            connection.context = self.contexts[identity]


class _Choice:
    """The choice of an identity. It must not refer to a context: the hooks outlive theirs then."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._staples = [identity.staple for identity in identities]
        self._authorities = [_authority_ids(identity.root) for identity in identities]

    def make(self, extension: bytes) -> None:
        """Note the identity for the client's trusted_ca_keys. Raises ValueError."""
        handshake, wanted = current(), set(_trusted_authorities(extension))
        matches = [i for i, ids in enumerate(self._authorities) if ids & wanted]
        handshake.identity = matches[0] if matches else 0
        handshake.trusted_ca_keys = "matched" if matches else "unmatched"

    def staple(self) -> bytes | None:
        handshake = current()
        answer = self._staples[handshake.identity]()
        handshake.ocsp = "none" if answer is None else "sent"
        return answer


def _tls12(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITE)
    return context


def _reporting(sign: Sign) -> Sign:
    """The same function; the current handshake keeps its error."""

    def reporting(digest: bytes) -> bytes:
        try:
            return sign(digest)
        except Exception as error:
            current().failure = error
            raise

    return reporting


def _is_matched() -> bool:
    return current().trusted_ca_keys == "matched"


def _keep_key(line: str) -> None:
    current().keys.append(line)


def _authority_ids(root: bytes) -> set[tuple[int, bytes]]:
    """The identifiers by which trusted_ca_keys may name a root."""
    certificate = path.read_any(root)
    return {
        (_KEY_HASH, _sha1(certificate.point)),
        (_NAME, certificate.subject),
        (_CERTIFICATE_HASH, _sha1(root)),
    }


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()  # a name, no proof


def _trusted_authorities(extension: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, identifier) of each entry of trusted_ca_keys [RFC 6066, 6]. Raises ValueError."""
    if len(extension) < 2 or int.from_bytes(extension[:2], "big") != len(extension) - 2:
        raise ValueError("not as long as it says")
    at = 2
    while at < len(extension):
        kind, start = extension[at], at + 1
        if kind == _NAME:
            size, start = int.from_bytes(extension[start : start + 2], "big"), start + 2
        elif kind in (_PRE_AGREED, _KEY_HASH, _CERTIFICATE_HASH):
            size = 0 if kind == _PRE_AGREED else 20
        else:
            raise ValueError(f"an identifier of type {kind}")
        at = start + size
        if at > len(extension):
            raise ValueError("an entry is cut off")
        yield kind, extension[start:at]


def _try(context: ssl.SSLContext, identity: Identity) -> None:
    """One handshake in memory, so that a key that does not sign is found at the start.

    Raises TlsError("key").
    """
    client_context = _tls12(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE  # the peer is this process
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    handshake = Handshake()
    with working_on(handshake):
        try:
            for _ in range(2):  # hello; key exchange and Finished
                _step(client)
                _step(server)
            client.do_handshake()
        except ssl.SSLError as error:
            reason = handshake.failure or error
            raise TlsError("key", f"a handshake in memory failed: {reason}") from error
    if client.getpeercert(binary_form=True) != identity.leaf:
        raise TlsError("key", "a handshake in memory showed another certificate")


def _step(end: ssl.SSLObject) -> None:
    with suppress(ssl.SSLWantReadError):
        end.do_handshake()
