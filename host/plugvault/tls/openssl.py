"""Functions that Python's `ssl` lacks, by ctypes on the OpenSSL that `ssl` itself uses.

Every use of an interface that is not public is in this file, with its reason:

- The `SSL_CTX` of a context is the first field after the head of the Python object; `ssl` has no
  function that gives it.
- A key that signs by a function is an `EC_KEY` with a method of its own. OpenSSL 3 calls this way
  deprecated; its successor, a provider, is loaded for the whole process and has to open the token
  a second time, which PKCS#11 forbids.
- Stapled answers, trusted_ca_keys, the signature algorithms and the server's session cache have no
  functions in `ssl`.

A process without these interfaces gets TlsError("library") at its start: `station.StationTls`
makes a handshake in memory with every key before it is used.
"""

import ctypes
import functools
import logging
import ssl
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from plugvault.tls.errors import TlsError

Sign = Callable[[bytes], bytes]
"""(SHA-256 digest) -> r‖s, 64 bytes."""

_EVP_PKEY_EC = 408
_CHAIN_CERTIFICATE = 89  # SSL_CTRL_CHAIN_CERT
_SESSION_CACHE = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_SIGNATURE_ALGORITHMS = 98  # SSL_CTRL_SET_SIGALGS_LIST
_STATUS_CALLBACK = 63  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB
_STATUS_ANSWER = 71  # SSL_CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP
_SEND_STATUS, _SEND_NO_STATUS = 0, 3  # SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_NOACK
_TRUSTED_CA_KEYS = 3  # the extension's number [RFC 6066, 6]
_DECODE_ERROR = 50  # the alert
_CLIENT_AND_SERVER_HELLO = 0x80 | 0x100  # SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO

_pointer = ctypes.c_void_p
_int, _long, _uint, _size = ctypes.c_int, ctypes.c_long, ctypes.c_uint, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[Any, ...]] = {  # the result's type, the arguments' types
    "CRYPTO_malloc": (_pointer, _size, ctypes.c_char_p, _int),
    "ERR_clear_error": (None,),
    "ERR_pop_to_mark": (_int,),
    "ERR_set_mark": (_int,),
    "EC_KEY_METHOD_new": (_pointer, _pointer),
    "EC_KEY_METHOD_set_sign": (None, _pointer, _pointer, _pointer, _pointer),
    "EC_KEY_OpenSSL": (_pointer,),
    "EC_KEY_dup": (_pointer, _pointer),
    "EC_KEY_free": (None, _pointer),
    "EC_KEY_set_method": (_int, _pointer, _pointer),
    "EVP_PKEY_assign": (_int, _pointer, _int, _pointer),
    "EVP_PKEY_free": (None, _pointer),
    "EVP_PKEY_get1_EC_KEY": (_pointer, _pointer),
    "EVP_PKEY_new": (_pointer,),
    "SSL_CTX_add_custom_ext": (_int, _pointer, _uint, _uint, *[_pointer] * 5),
    "SSL_CTX_callback_ctrl": (_long, _pointer, _int, _pointer),
    "SSL_CTX_ctrl": (_long, _pointer, _int, _long, _pointer),
    "SSL_CTX_get_options": (ctypes.c_uint64, _pointer),
    "SSL_CTX_set_keylog_callback": (None, _pointer, _pointer),
    "SSL_CTX_use_PrivateKey": (_int, _pointer, _pointer),
    "SSL_CTX_use_certificate": (_int, _pointer, _pointer),
    "SSL_ctrl": (_long, _pointer, _int, _long, _pointer),
    "SSL_get_SSL_CTX": (_pointer, _pointer),
    "X509_free": (None, _pointer),
    "X509_get_pubkey": (_pointer, _pointer),
    "d2i_X509": (_pointer, _pointer, _pointer, _long),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hooks:
    """The functions that a context calls during a handshake, in the thread of the handshake.

    staple: the OCSP answer for a client that asks for one; None sends none. trusted_ca_keys: gets
    the extension's content, and raises ValueError when it is malformed. has_match: whether the
    server says that it used it. key: gets each line of the key log.
    """

    staple: Callable[[], bytes | None]
    trusted_ca_keys: Callable[[bytes], None]
    has_match: Callable[[], bool]
    key: Callable[[str], None]


_signers: dict[int, Sign] = {}  # by EC_KEY
_hooks: dict[int, Hooks] = {}  # by SSL_CTX


@functools.cache
def _library() -> Any:
    """The OpenSSL of `ssl`, its functions declared. Raises TlsError("library")."""
    import _ssl

    if (file := getattr(_ssl, "__file__", None)) is None:
        raise TlsError(
            "library", "this Python contains its OpenSSL; use the distribution's Python"
        )
    try:
        library = ctypes.CDLL(file)
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise TlsError("library", f"{ssl.OPENSSL_VERSION}: {error}") from error
    return library


def clear_errors() -> None:
    """Empty this thread's error queue. A token's library leaves errors in it, which `ssl` would
    report as its own. Raises TlsError("library")."""
    _library().ERR_clear_error()


def use_key(context: ssl.SSLContext, chain: Sequence[bytes], sign: Sign) -> None:
    """Give a context a certificate with its path (DER, leaf first) and a private key that signs by
    `sign(digest: 32 bytes) -> r‖s`.

    Raises TlsError: "library", "certificate".
    """
    library, ssl_context = _library(), _ssl_context(context)
    certificates = [_certificate(der) for der in chain]
    try:
        key = _signing_key(certificates[0], context, sign)
        try:
            good = library.SSL_CTX_use_certificate(ssl_context, certificates[0]) == 1
            good = good and library.SSL_CTX_use_PrivateKey(ssl_context, key) == 1
        finally:
            library.EVP_PKEY_free(key)
        for certificate in certificates[1:]:
            add = library.SSL_CTX_ctrl(ssl_context, _CHAIN_CERTIFICATE, 1, certificate)
            good = good and add == 1
    finally:
        for certificate in certificates:
            library.X509_free(certificate)
        clear_errors()
    if not good:
        raise TlsError("certificate", "OpenSSL refuses the certificate or its path")


def restrict(context: ssl.SSLContext) -> None:
    """Allow only ECDSA with SHA-256, the only digest that a P-256 key of a token signs here, and
    no stored sessions, because a resumed session shows the client no certificate."""
    library, ssl_context = _library(), _ssl_context(context)
    algorithms = ctypes.c_char_p(b"ECDSA+SHA256")
    pointer = ctypes.cast(algorithms, _pointer)
    if library.SSL_CTX_ctrl(ssl_context, _SIGNATURE_ALGORITHMS, 0, pointer) != 1:
        raise TlsError("library", "the signature algorithms cannot be set")
    library.SSL_CTX_ctrl(ssl_context, _SESSION_CACHE, 0, None)


def call(context: ssl.SSLContext, hooks: Hooks) -> None:
    """Let a context call `hooks`. Raises TlsError("library")."""
    library, ssl_context = _library(), _ssl_context(context)
    _hooks[ssl_context] = hooks
    weakref.finalize(context, _hooks.pop, ssl_context, None)
    library.SSL_CTX_callback_ctrl(ssl_context, _STATUS_CALLBACK, _address(_STATUS))
    library.SSL_CTX_set_keylog_callback(ssl_context, _address(_KEY))
    added = library.SSL_CTX_add_custom_ext(
        ssl_context,
        _TRUSTED_CA_KEYS,
        _CLIENT_AND_SERVER_HELLO,
        _address(_SERVER_HELLO),
        None,
        None,
        _address(_TRUSTED_CA_KEYS_READ),
        None,
    )
    if added != 1:
        raise TlsError("library", "trusted_ca_keys cannot be read")


def _ssl_context(context: ssl.SSLContext) -> int:
    """The address of a context's SSL_CTX. Raises TlsError("library") when the pointer is another
    one in this Python."""
    pointer = _pointer.from_address(id(context) + object.__basicsize__).value
    options = context.options & 0xFFFF_FFFF_FFFF_FFFF
    if pointer is None or _library().SSL_CTX_get_options(pointer) != options:
        raise TlsError("library", f"Python {sys.version.split()[0]} hides its SSL_CTX")
    return pointer


def _certificate(der: bytes) -> int:
    """An X509, to be freed."""
    start = ctypes.c_char_p(der)
    certificate = _library().d2i_X509(None, ctypes.byref(start), len(der))
    if not certificate:
        raise TlsError("certificate", "OpenSSL cannot read it")
    return int(certificate)


def _signing_key(certificate: int, context: ssl.SSLContext, sign: Sign) -> int:
    """An EVP_PKEY with the certificate's public key, to be freed; `sign` signs for it."""
    library = _library()
    public = library.X509_get_pubkey(certificate)
    of_certificate = library.EVP_PKEY_get1_EC_KEY(public)
    library.EVP_PKEY_free(public)
    if not of_certificate:
        raise TlsError("certificate", "its key is not on an elliptic curve")
    ec_key = library.EC_KEY_dup(of_certificate)
    library.EC_KEY_free(of_certificate)
    # The method first: a key that has another one when it is assigned is left to that method.
    if library.EC_KEY_set_method(ec_key, _method()) != 1:
        raise TlsError("library", "the method of an EC key cannot be set")
    _signers[ec_key] = sign
    weakref.finalize(context, _signers.pop, ec_key, None)
    key = library.EVP_PKEY_new()
    library.EVP_PKEY_assign(key, _EVP_PKEY_EC, ec_key)
    return int(key)


@functools.cache
def _method() -> int:
    """The EC_KEY_METHOD whose signature is `_on_sign`."""
    library = _library()
    method = library.EC_KEY_METHOD_new(library.EC_KEY_OpenSSL())
    library.EC_KEY_METHOD_set_sign(method, _address(_SIGN), None, None)
    return int(method)


def _address(callback: Any) -> Any:
    return ctypes.cast(callback, _pointer)


def _on_sign(
    _type: int,
    digest: int,
    digest_size: int,
    signature: int,
    size: Any,
    _inverse: int,
    _r: int,
    ec_key: int,
) -> int:
    """ECDSA_sign of the method: `signature` has room for the largest DER of the key's curve."""
    library = _library()
    library.ERR_set_mark()  # errors of the token's library are not the handshake's
    try:
        raw = _signers[ec_key](ctypes.string_at(digest, digest_size))
        half = len(raw) // 2
        der = encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )
        ctypes.memmove(signature, der, len(der))
        size[0] = len(der)
        return 1
    except Exception as error:  # noqa: BLE001 - an exception cannot pass through OpenSSL
        _log.warning("the token did not sign a TLS handshake: %r", error)
        return 0
    finally:
        library.ERR_pop_to_mark()


def _on_status(connection: int, _argument: int) -> int:
    """The client asks for an OCSP answer. OpenSSL frees the copy that it gets."""
    library = _library()
    try:
        answer = _hooks_of(connection).staple()
    except Exception:  # noqa: BLE001 - an exception cannot pass through OpenSSL
        _log.exception("no OCSP answer for a TLS handshake")
        answer = None
    if answer is None:
        return _SEND_NO_STATUS
    copy = library.CRYPTO_malloc(len(answer), b"", 0)
    ctypes.memmove(copy, answer, len(answer))
    library.SSL_ctrl(connection, _STATUS_ANSWER, len(answer), copy)
    return _SEND_STATUS


def _on_trusted_ca_keys(
    connection: int,
    _type: int,
    _context: int,
    content: int | None,
    size: int,
    _certificate_: int,
    _index: int,
    alert: Any,
    _argument: int,
) -> int:
    """The client's extension; a malformed one ends the handshake."""
    try:
        _hooks_of(connection).trusted_ca_keys(ctypes.string_at(content, size) if content else b"")
    except Exception as error:  # noqa: BLE001 - an exception cannot pass through OpenSSL
        _log.info("trusted_ca_keys were not read: %s", error)
        alert[0] = _DECODE_ERROR
        return 0
    return 1


def _on_server_hello(
    connection: int,
    _type: int,
    _context: int,
    content: Any,
    size: Any,
    _certificate_: int,
    _index: int,
    _alert: int,
    _argument: int,
) -> int:
    """The server's extension is empty, and only there when it used the client's [RFC 6066, 6]."""
    content[0], size[0] = None, 0
    return 1 if _hooks_of(connection).has_match() else 0


def _on_key(connection: int, line: bytes) -> None:
    _hooks_of(connection).key(line.decode())


def _hooks_of(connection: int) -> Hooks:
    return _hooks[_library().SSL_get_SSL_CTX(connection)]


_SIGN = ctypes.CFUNCTYPE(
    _int, _int, _pointer, _int, _pointer, ctypes.POINTER(_uint), _pointer, _pointer, _pointer
)(_on_sign)
_STATUS = ctypes.CFUNCTYPE(_int, _pointer, _pointer)(_on_status)
_KEY = ctypes.CFUNCTYPE(None, _pointer, ctypes.c_char_p)(_on_key)
_EXTENSION = (_int, _pointer, _uint, _uint)  # the result's type, the first three arguments'
_REST = (_pointer, _size)
_TRUSTED_CA_KEYS_READ = ctypes.CFUNCTYPE(
    *_EXTENSION, _pointer, _size, *_REST, ctypes.POINTER(_int), _pointer
)(_on_trusted_ca_keys)
_SERVER_HELLO = ctypes.CFUNCTYPE(
    *_EXTENSION, ctypes.POINTER(_pointer), ctypes.POINTER(_size), *_REST, _pointer, _pointer
)(_on_server_hello)
