"""Bundle a contract into a signed CertificateInstallationRes [ISO 15118-2, 8.4.3.8.3].

The four signed elements carry the Ids id1 to id4; the CPS's own chain and the ResponseCode are not
signed, as the standard has it. The bundle has an empty SessionID (one zero byte), which
`response.with_session_id` replaces: the SessionID is outside the signature.
"""

from collections.abc import Callable, Sequence
from typing import Any

from evcc import exi, signature
from evcc.iso15118_2 import messages
from plugvault.contract.data import ContractData

Message = dict[str, Any]

ISO2: str = messages.NAMESPACE  # how OPCP names this kind of message
NO_SESSION = b"\x00"
SIGNED = (
    ("id1", "ContractSignatureCertChain"),
    ("id2", "ContractSignatureEncryptedPrivateKey"),
    ("id3", "DHpublickey"),
    ("id4", "eMAID"),
)


def bundle(
    contract: ContractData,
    cps: bytes,
    cps_subs: Sequence[bytes],
    sign: Callable[[bytes], bytes],
) -> Message:
    """The signed message as a dict, as evcc's EXI codec has it. `sign(digest: 32 bytes) -> r | s,
    64 bytes` with the CPS leaf's key.

    `cps`: DER of the CPS leaf; `cps_subs`: DER, Sub2 first.
    """
    values: dict[str, Message] = {
        "ContractSignatureCertChain": chain(contract.certificate, contract.subs),
        "ContractSignatureEncryptedPrivateKey": {"value": contract.wrapped},
        "DHpublickey": {"value": contract.dh_point},
        "eMAID": {"value": contract.emaid},
    }
    elements = [(ident, name, {"Id": ident, **values[name]}) for ident, name in SIGNED]
    body = {
        "ResponseCode": "OK",
        "SAProvisioningCertificateChain": chain(cps, cps_subs),
        **{name: value for _, name, value in elements},
    }
    header = {"SessionID": NO_SESSION, "Signature": signature.sign(elements, sign)}
    return {"V2G_Message": {"Header": header, "Body": {"CertificateInstallationRes": body}}}


def chain(leaf: bytes, subs: Sequence[bytes]) -> Message:
    """A CertificateChainType. Without sub-CAs the element SubCertificates is left out, as the
    schema requires."""
    if not subs:
        return {"Certificate": leaf}
    return {"Certificate": leaf, "SubCertificates": {"Certificate": list(subs)}}


def to_exi(message: Message) -> bytes:
    """The message in EXI, without a V2GTP header."""
    return exi.encode(message)
