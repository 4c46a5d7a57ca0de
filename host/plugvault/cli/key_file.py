"""A test vehicle's provisioning key in a file."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)

from plugvault.explanation import ExplainError
from plugvault.pki import forms


def read(file: Path) -> ec.EllipticCurvePrivateKey:
    """A private key on P-256, PEM or DER, without a password. Text around PEM is ignored.

    Raises ExplainError("key"), OSError.
    """
    data = file.read_bytes()
    try:
        blocks = [b.text for b in forms.blocks(data) if b.label.endswith("PRIVATE KEY")]
        key = load_pem_private_key(blocks[0], None) if blocks else load_der_private_key(data, None)
    except (ValueError, TypeError, forms.FormError) as error:
        text = (
            f"{file}: {forms.kind(data)} and no private key without a password;"
            " `openssl pkey -in KEY -out key.pem` writes one from a key of another form"
        )
        raise ExplainError("key", text) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ExplainError("key", f"{file}: the test key is not on P-256")
    return key
