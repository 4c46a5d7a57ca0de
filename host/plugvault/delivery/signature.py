"""The signature of a delivery [OPCP 1.0.0, webhook.payload.v1].

HMAC-SHA256 over the body as it is sent, under the webhook's secret, in hexadecimal. The documents
of the protocol and of its users name three headers for it; all three are sent.
"""

import hashlib
import hmac


def headers(secret: str, body: bytes) -> dict[str, str]:
    """The headers with the signature of `body`."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "payload-signature": digest,
        "X-Hubject-Signature": f"sha256={digest}",
        "X-Operator-Signature": f"sha256={digest}",
    }
