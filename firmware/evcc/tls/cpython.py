"""TLS by CPython's `ssl`, and by ctypes what it does not offer: OCSP, trusted_ca_keys, and `Peer`
in the place of OpenSSL's path check, so that a refused station gets an alert.

ctypes opens the libssl that `ssl` itself uses; that needs a Python which links it dynamically, as
Debian's does.
"""

import _ssl
import ctypes
import ssl

from . import SUITE, TlsError, openssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_P = ctypes.c_void_p
_FUNCTIONS = {  # name: (result, arguments)
    "SSL_CTX_ctrl": (ctypes.c_long, (_P, ctypes.c_int, ctypes.c_long, _P)),
    "SSL_CTX_get_options": (ctypes.c_uint64, (_P,)),
    "SSL_CTX_callback_ctrl": (ctypes.c_long, (_P, ctypes.c_int, _P)),
    "SSL_CTX_set_cert_verify_callback": (None, (_P, _P, _P)),
    "SSL_CTX_set_keylog_callback": (None, (_P, _P)),
    "SSL_CTX_add_client_custom_ext": (
        ctypes.c_int,
        (_P, ctypes.c_uint, _P, _P, _P, _P, _P),
    ),
    "SSL_ctrl": (ctypes.c_long, (_P, ctypes.c_int, ctypes.c_long, _P)),
    "OPENSSL_sk_num": (ctypes.c_int, (_P,)),
    "OPENSSL_sk_value": (_P, (_P, ctypes.c_int)),
    "i2d_X509": (ctypes.c_int, (_P, _P)),
    "X509_STORE_CTX_get0_untrusted": (_P, (_P,)),
    "X509_STORE_CTX_set_error": (None, (_P, ctypes.c_int)),
    "ERR_clear_error": (None, ()),
}
_JUDGE = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P)
_KEYLOG = ctypes.CFUNCTYPE(None, _P, ctypes.c_char_p)
_ADD = ctypes.CFUNCTYPE(
    ctypes.c_int,
    _P,
    ctypes.c_uint,
    ctypes.POINTER(_P),
    ctypes.POINTER(ctypes.c_size_t),
    _P,
    _P,
)
_functions: dict = {}  # by name, once per process


def _function(name: str):
    """A function of the libssl of `ssl`. Raises: TlsError("unavailable")."""
    if not _functions:
        try:
            library = ctypes.CDLL(getattr(_ssl, "__file__", None))
            for key, (result, arguments) in _FUNCTIONS.items():
                function = getattr(library, key)
                function.restype, function.argtypes = result, arguments
                _functions[key] = function
        except (OSError, AttributeError) as error:
            _functions.clear()
            raise TlsError("unavailable", "this Python hides its libssl: " + str(error))
    return _functions[name]


class SslClient(openssl.OpensslClient):
    """`Client` on `ssl`. peer, keylog: see `client`. Raises: TlsError("unavailable")."""

    def _function(self, name: str):
        return _function(name)

    def _der(self, certificate: int) -> bytes:
        return _der(certificate)

    def __init__(self, peer, keylog=None) -> None:
        self._peer = peer
        self._kept: list = []  # the objects that OpenSSL has the addresses of
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._context = self._set_up(keylog)
            self._tls = self._context.wrap_bio(self._in, self._out, server_side=False)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError("unavailable", str(error))

    def _set_up(self, keylog) -> ssl.SSLContext:
        context: "Any" = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # MicroPython has its own
        context.check_hostname = False  # a station's name is not known beforehand
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.options |= openssl.NO_TICKET | openssl.NO_RENEGOTIATION
        context.set_ciphers(SUITE)
        pointer = _ssl_ctx(context)
        control = _function("SSL_CTX_ctrl")
        done = [
            control(pointer, openssl.SET_GROUPS, 0, openssl.GROUPS),
            control(pointer, openssl.SET_SIGNATURES, 0, openssl.SIGNATURES),
            control(pointer, openssl.SET_STATUS_TYPE, openssl.STATUS_TYPE_OCSP, None),
        ]
        verify = self._callback(_JUDGE, self._verify)
        _function("SSL_CTX_set_cert_verify_callback")(pointer, verify, None)
        status = self._callback(_JUDGE, self._judge_answer)
        _function("SSL_CTX_callback_ctrl")(pointer, openssl.SET_STATUS_CALLBACK, status)
        self._extension = ctypes.create_string_buffer(self._peer.trusted_ca_keys())
        done.append(
            _function("SSL_CTX_add_client_custom_ext")(
                pointer,
                openssl.TRUSTED_CA_KEYS,
                self._callback(_ADD, self._add_extension),
                *[None] * 4,
            )
        )
        if keylog is not None:
            tell = self._callback(_KEYLOG, lambda _, line: keylog(line.decode()))
            _function("SSL_CTX_set_keylog_callback")(pointer, tell)
        if not all(done):
            raise TlsError("unavailable", "libssl refuses the settings of ISO 15118-2")
        return context

    def _callback(self, kind, function):
        callback = kind(function)
        self._kept.append(callback)
        return ctypes.cast(callback, _P)

    def _answer(self, connection) -> "bytes | None":
        pointer = _P()
        place = ctypes.addressof(pointer)
        size = _function("SSL_ctrl")(connection, openssl.GET_STATUS_ANSWER, 0, place)
        return ctypes.string_at(pointer.value, size) if size > 0 and pointer.value else None

    def _add_extension(self, connection, kind, data, size, alert, _) -> int:
        data[0] = ctypes.addressof(self._extension)
        size[0] = len(self._extension) - 1  # ctypes adds a zero
        return 1

    def handshake(self) -> bool:
        _function("ERR_clear_error")()  # of a token's library in this thread
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._peer.error or TlsError("handshake", _text(error))
        if self._peer.leaf is None:
            raise TlsError("certificate", "the station's chain was not judged")
        self.suite = (self._tls.cipher() or ("",))[0]
        return True

    def incoming(self, data: bytes) -> None:
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def outgoing(self) -> bytes:
        return self._out.read()

    def write(self, data: bytes) -> None:
        try:
            if data:
                self._tls.write(data)
        except ssl.SSLError as error:
            raise TlsError("closed", _text(error))

    def read(self) -> bytes:
        try:
            data = self._tls.read(4096)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise TlsError("closed", _text(error))
        if not data:
            raise TlsError("closed", "the station has closed the connection")
        return data

    def close(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the station's half is not waited for


def _ssl_ctx(context) -> int:
    """The address of OpenSSL's SSL_CTX, the first member of the object after its head. Raises:
    TlsError("unavailable") where it is not: its options must be those that `ssl` states."""
    pointer = _P.from_address(id(context) + object.__basicsize__).value
    options = context.options & 0xFFFFFFFFFFFFFFFF
    if not pointer or _function("SSL_CTX_get_options")(pointer) != options:
        raise TlsError("unavailable", "this Python hides its SSL_CTX")
    return pointer


def _der(certificate: int) -> bytes:
    encode = _function("i2d_X509")
    buffer = ctypes.create_string_buffer(max(encode(certificate, None), 0))
    pointer = _P(ctypes.addressof(buffer))
    encode(certificate, ctypes.addressof(pointer))
    return buffer.raw


def _text(error: ssl.SSLError) -> str:
    return error.reason or error.strerror or type(error).__name__
