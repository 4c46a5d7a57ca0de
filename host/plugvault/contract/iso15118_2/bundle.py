"""Bundle a contract into a signed CertificateInstallationRes [ISO 15118-2, 8.4.3.8.3].

The four signed parts carry the Ids id1 to id4; the CPS's own chain and the ResponseCode are not
signed, as the standard has it. The message is made with an empty SessionID (one zero byte) and
gets the session's own when somebody sends it: the SessionID is outside the signature.
"""

from collections.abc import Callable, Sequence

from evcc import signature
from evcc.iso15118_2 import messages
from plugvault.contract import shapes
from plugvault.contract.issue import ContractData
from plugvault.contract.shapes import Fixed, Shaped

Message = shapes.Message

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
    """The signed message as a dict. `sign(digest: 32 bytes) -> r | s` with the CPS leaf's key.

    `cps`: DER of the CPS leaf; `cps_subs`: DER, Sub2 first.
    """
    path = contract.certificate, *contract.subs
    parts: dict[str, tuple[Message, Sequence[shapes.Value]]] = {
        "ContractSignatureCertChain": (chain(contract.certificate, contract.subs), path),
        "ContractSignatureEncryptedPrivateKey": ({"value": contract.wrapped}, [contract.wrapped]),
        "DHpublickey": ({"value": contract.dh_point}, [contract.dh_point]),
        "eMAID": ({"value": contract.emaid}, [contract.emaid]),
    }
    signed = []
    for mark, name in SIGNED:
        members, values = parts[name]
        signed.append((mark, name, Shaped({"Id": mark, **members}, mark, values)))
    by = signature.sign(signed, sign, _fragment)
    digests = [reference["DigestValue"] for reference in by["SignedInfo"]["Reference"]]
    header = {"SessionID": NO_SESSION, "Signature": Fixed(by)}
    body = {
        "ResponseCode": "OK",
        "SAProvisioningCertificateChain": chain(cps, cps_subs),
        **{name: value for _, name, value in signed},
    }
    content = {"Header": Fixed(header), "Body": Fixed({"CertificateInstallationRes": Fixed(body)})}
    message = {"V2G_Message": Fixed(content)}
    value = by["SignatureValue"]["value"]
    octets = (
        NO_SESSION,
        *digests,
        value,
        cps,
        *cps_subs,
        *path,
        contract.wrapped,
        contract.dh_point,
    )
    return Shaped(message, f"bundle {len(path)}", (*octets, contract.emaid))


def _fragment(name: str, value: Message, schema: str, typed: bool = False) -> bytes:
    if name == "SignedInfo":  # which `signature` makes, the same each time but for the digests
        digests = [reference["DigestValue"] for reference in value["Reference"]]
        value = Shaped(value, "of a bundle", digests)
    return shapes.fragment(name, value, schema, typed)


def chain(leaf: bytes, subs: Sequence[bytes]) -> Message:
    """A CertificateChainType; without sub-CAs the element is left out, as the schema wants."""
    if not subs:
        return {"Certificate": leaf}
    return {"Certificate": leaf, "SubCertificates": {"Certificate": list(subs)}}


def to_exi(message: Message) -> bytes:
    """The message as it goes over the wire."""
    return shapes.encode(message)
