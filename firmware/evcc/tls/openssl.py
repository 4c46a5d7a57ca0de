"""The common part of the two ways to OpenSSL: the numbers of its interface, and the settings.

From its public headers, the same in OpenSSL 1.1.1 and 3. Both ways replace its check of the
certificate path: `Peer` decides.
"""

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


def judged(peer, judge, argument) -> int:
    """The answer of a callback, 1 or 0; no error may pass through C."""
    try:
        return 1 if judge(argument) else 0
    except Exception as error:  # noqa: BLE001
        from . import TlsError

        peer.leaf = None
        peer.error = TlsError("certificate", type(error).__name__)
        return 0
