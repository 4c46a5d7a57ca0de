"""TLS by the system's libssl through `ffi`: MicroPython on Linux, with OCSP and trusted_ca_keys.

Two memory BIOs stand between OpenSSL and the socket, so that the caller's loop never waits in it.
Every buffer that OpenSSL reads after a call has returned, and every callback, is kept in the
client. The errors of OpenSSL are a queue of the thread, which a token's library may share: so it
is emptied before each call.
"""

import struct

import ffi
import uctypes

from . import SUITE, TlsError, openssl

_LIBRARIES = (("libssl.so.3", "libcrypto.so.3"), ("libssl.so.1.1", "libcrypto.so.1.1"))
_SSL = {  # name: (result, arguments)
    "TLS_client_method": ("P", ""),
    "SSL_CTX_new": ("P", "P"),
    "SSL_CTX_free": ("v", "P"),
    "SSL_CTX_ctrl": ("l", "PilP"),
    "SSL_CTX_callback_ctrl": ("l", "PiP"),
    "SSL_CTX_set_options": ("Q", "PQ"),
    "SSL_CTX_set_cipher_list": ("i", "Ps"),
    "SSL_CTX_set_verify": ("v", "PiP"),
    "SSL_CTX_set_cert_verify_callback": ("v", "PPP"),
    "SSL_CTX_set_keylog_callback": ("v", "PP"),
    "SSL_CTX_add_client_custom_ext": ("i", "PIPPPPP"),
    "SSL_new": ("P", "P"),
    "SSL_free": ("v", "P"),
    "SSL_set_bio": ("v", "PPP"),
    "SSL_ctrl": ("l", "PilP"),
    "SSL_connect": ("i", "P"),
    "SSL_get_error": ("i", "Pi"),
    "SSL_read": ("i", "PPi"),
    "SSL_write": ("i", "PPi"),
    "SSL_shutdown": ("i", "P"),
    "SSL_get_current_cipher": ("P", "P"),
    "SSL_CIPHER_get_name": ("s", "P"),
}
_CRYPTO = {
    "BIO_s_mem": ("P", ""),
    "BIO_new": ("P", "P"),
    "BIO_read": ("i", "PPi"),
    "BIO_write": ("i", "PPi"),
    "BIO_ctrl": ("l", "PilP"),
    "OPENSSL_sk_num": ("i", "P"),
    "OPENSSL_sk_value": ("P", "Pi"),
    "i2d_X509": ("i", "PP"),
    "X509_STORE_CTX_get0_untrusted": ("P", "P"),
    "X509_STORE_CTX_set_error": ("v", "Pi"),
    "ERR_clear_error": ("v", ""),
    "ERR_get_error": ("L", ""),
    "ERR_error_string_n": ("v", "LPL"),
}
_WANT_READ = 2  # of SSL_get_error
_ZERO_RETURN = 6
_BIO_PENDING, _BIO_AT_END = 10, 130  # of BIO_ctrl: bytes to read; what an empty one answers
_PIECE = 4096
_WORD = struct.calcsize("P")

_functions: dict = {}  # by name, once per process


def _function(name: str):
    """A function of libssl or libcrypto. Raises: TlsError("unavailable")."""
    if not _functions:
        _open()
    return _functions[name]


def _open() -> None:
    for names in _LIBRARIES:
        try:
            libraries = [ffi.open(name) for name in names]
            functions: dict = {"": libraries}  # a reference: closing would unload the code
            for library, table in zip(libraries, (_SSL, _CRYPTO)):
                for name, (result, arguments) in table.items():
                    functions[name] = library.func(result, name, arguments)
        except OSError:
            continue
        _functions.update(functions)
        return
    raise TlsError("unavailable", "no libssl.so.3 of this interpreter's kind: install libssl3")


class LibsslClient(openssl.OpensslClient):
    """`Client` on libssl. peer, keylog: see `client`. Raises: TlsError("unavailable")."""

    def _function(self, name: str):
        return _function(name)

    def _der(self, certificate: int) -> bytes:
        return _der(certificate)

    def __init__(self, peer, keylog=None) -> None:
        self._peer = peer
        self._kept: list = []  # the objects that OpenSSL has the addresses of
        self._context = self._connection = None
        self._context = self._made(_function("SSL_CTX_new")(_function("TLS_client_method")()))
        self._set_up(keylog)
        self._connection = self._made(_function("SSL_new")(self._context))
        self._in, self._out = [
            self._made(_function("BIO_new")(_function("BIO_s_mem")())) for _ in range(2)
        ]
        _function("BIO_ctrl")(self._in, _BIO_AT_END, -1, None)  # empty: wait, not ended
        _function("SSL_set_bio")(self._connection, self._in, self._out)

    def _made(self, pointer: int) -> int:
        if not pointer:
            raise TlsError("unavailable", "libssl is out of memory")
        return pointer

    def _set_up(self, keylog) -> None:
        context = self._context
        control = _function("SSL_CTX_ctrl")
        options = openssl.NO_TICKET | openssl.NO_RENEGOTIATION
        _function("SSL_CTX_set_options")(context, options)
        done = [
            _function("SSL_CTX_set_cipher_list")(context, SUITE),
            control(context, openssl.SET_MINIMUM, openssl.TLS_1_2, None),
            control(context, openssl.SET_MAXIMUM, openssl.TLS_1_2, None),
            control(context, openssl.SET_GROUPS, 0, openssl.GROUPS),
            control(context, openssl.SET_SIGNATURES, 0, openssl.SIGNATURES),
            control(context, openssl.SET_STATUS_TYPE, openssl.STATUS_TYPE_OCSP, None),
        ]
        _function("SSL_CTX_set_verify")(context, openssl.VERIFY_PEER, None)
        verify = self._callback("i", self._verify, "PP")
        _function("SSL_CTX_set_cert_verify_callback")(context, verify, None)
        status = self._callback("i", self._judge_answer, "PP")
        _function("SSL_CTX_callback_ctrl")(context, openssl.SET_STATUS_CALLBACK, status)
        add = self._callback("i", self._add_extension, "PIPPPP")
        self._extension = self._peer.trusted_ca_keys()
        done.append(
            _function("SSL_CTX_add_client_custom_ext")(
                context, openssl.TRUSTED_CA_KEYS, add, None, None, None, None
            )
        )
        if keylog is not None:
            tell = self._callback("v", lambda _, line: keylog(_text(line)), "PP")
            _function("SSL_CTX_set_keylog_callback")(context, tell)
        if not all(done):
            raise TlsError("unavailable", "libssl refuses the settings of ISO 15118-2")

    def _callback(self, result: str, function, arguments: str) -> int:
        callback = ffi.callback(result, function, arguments)
        self._kept.append(callback)
        return callback.cfun()

    def _answer(self, connection) -> "bytes | None":
        pointer = bytearray(_WORD)
        size = _function("SSL_ctrl")(connection, openssl.GET_STATUS_ANSWER, 0, pointer)
        address = struct.unpack("P", pointer)[0]
        return uctypes.bytes_at(address, size) if size > 0 and address else None

    def _add_extension(self, connection, kind, data, size, alert, _) -> int:
        _write(data, struct.pack("P", uctypes.addressof(self._extension)))
        _write(size, struct.pack("L", len(self._extension)))
        return 1

    def handshake(self) -> bool:
        _function("ERR_clear_error")()
        result = _function("SSL_connect")(self._connection)
        if result != 1:
            self._explain(result, "handshake")
            return False
        if self._peer.leaf is None:
            raise TlsError("certificate", "the station's chain was not judged")
        cipher = _function("SSL_get_current_cipher")(self._connection)
        self.suite = _function("SSL_CIPHER_get_name")(cipher)
        return True

    def incoming(self, data: bytes) -> None:
        if not data:
            _function("BIO_ctrl")(self._in, _BIO_AT_END, 0, None)
        elif _function("BIO_write")(self._in, data, len(data)) != len(data):
            raise TlsError("closed", "libssl is out of memory")

    def outgoing(self) -> bytes:
        size = _function("BIO_ctrl")(self._out, _BIO_PENDING, 0, None)
        data = bytearray(size)
        if size:
            _function("BIO_read")(self._out, data, size)
        return bytes(data)

    def write(self, data: bytes) -> None:
        _function("ERR_clear_error")()
        if data and _function("SSL_write")(self._connection, data, len(data)) != len(data):
            raise TlsError("closed", "no record can be written")

    def read(self) -> bytes:
        _function("ERR_clear_error")()
        data = bytearray(_PIECE)
        size = _function("SSL_read")(self._connection, data, _PIECE)
        if size <= 0:
            self._explain(size, "closed")
            return b""
        return bytes(data[:size])

    def close(self) -> None:
        if self._connection:
            _function("ERR_clear_error")()
            _function("SSL_shutdown")(self._connection)

    def free(self) -> None:
        """Free OpenSSL's memory; no other method may be called after it."""
        if self._connection:
            _function("SSL_free")(self._connection)  # and both BIOs
        if self._context:
            _function("SSL_CTX_free")(self._context)
        self._context = self._connection = None

    def _explain(self, result: int, reason: str) -> None:
        """Return when more ciphertext is needed. Raises: TlsError for everything else."""
        code = _function("SSL_get_error")(self._connection, result)
        if code == _WANT_READ:
            return
        if self._peer.error is not None:
            raise self._peer.error
        if code == _ZERO_RETURN:
            raise TlsError(reason, "the station has closed the connection")
        text = bytearray(200)
        number = _function("ERR_get_error")()
        if not number:
            raise TlsError(reason, "the connection broke off")
        _function("ERR_error_string_n")(number, text, len(text))
        raise TlsError(reason, bytes(text).split(b"\0")[0].decode())


def _der(certificate: int) -> bytes:
    encode = _function("i2d_X509")
    data = bytearray(max(encode(certificate, None), 0))
    encode(certificate, bytearray(struct.pack("P", uctypes.addressof(data))))
    return bytes(data)


def _write(address: int, data: bytes) -> None:
    uctypes.bytearray_at(address, len(data))[:] = data


def _text(address: int) -> str:
    """A C string of at most 400 characters, which a line of a key log never has."""
    text = b""
    while len(text) < 400:
        byte = uctypes.bytes_at(address + len(text), 1)
        if byte == b"\0":
            break
        text += byte
    return text.decode()
