"""The common part of the two ways to OpenSSL: the numbers of its interface, and the settings.

From its public headers, the same in OpenSSL 1.1.1 and 3. Both ways replace its check of the
certificate path: `Peer` decides.
"""

from evcc.tls import Client, TlsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TLS_1_2 = 0x0303
VERIFY_PEER = 1
STATUS_TYPE_OCSP = 1
CHAIN_REFUSED = 50  # X509_V_ERR_APPLICATION_VERIFICATION
TRUSTED_CA_KEYS = 3  # the number of the extension
NO_TICKET = 1 << 14
NO_RENEGOTIATION = 1 << 30
GROUPS = b"P-256\0"
SIGNATURES = b"ECDSA+SHA256\0"

# of SSL_CTX_ctrl, SSL_CTX_callback_ctrl and SSL_ctrl
SET_STATUS_CALLBACK = 63
SET_STATUS_TYPE = 65
GET_STATUS_ANSWER = 70
SET_GROUPS = 92
SET_SIGNATURES = 98
SET_MINIMUM = 123
SET_MAXIMUM = 124


class OpensslClient(Client):
    """The callbacks of OpenSSL in which `Peer` judges the station."""

    _peer: "Any" = None

    def _function(self, name: str) -> "Any":
        """A function of OpenSSL."""
        raise NotImplementedError

    def _der(self, certificate: int) -> bytes:
        """The bytes of an X509."""
        raise NotImplementedError

    def _answer(self, connection) -> "bytes | None":
        """The stapled OCSP answer; None: there is none."""
        raise NotImplementedError

    def _verify(self, store, _) -> int:
        accepted = self._judged(self._judge_chain, store)
        if not accepted:
            self._function("X509_STORE_CTX_set_error")(store, CHAIN_REFUSED)
        return accepted

    def _judge_chain(self, store) -> bool:
        stack = self._function("X509_STORE_CTX_get0_untrusted")(store)
        count = self._function("OPENSSL_sk_num")(stack)
        value = self._function("OPENSSL_sk_value")
        return self._peer.accepts_chain([self._der(value(stack, i)) for i in range(count)])

    def _judge_answer(self, connection, _) -> int:
        accepted = self._judged(self._accepts_answer, connection)
        self._function("ERR_clear_error")()
        return accepted

    def _accepts_answer(self, connection) -> bool:
        return self._peer.accepts_answer(self._answer(connection))

    def _judged(self, judge, argument) -> int:
        """The answer of a callback, 1 or 0; no error may pass through C."""
        try:
            return 1 if judge(argument) else 0
        except Exception as error:  # noqa: BLE001
            self._peer.leaf = None
            self._peer.error = TlsError("certificate", type(error).__name__)
            return 0
