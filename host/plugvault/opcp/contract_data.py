"""The requests of operators to the CPS: contract data in two forms, or an order for a contract.

The schema of the current call has the certificates side by side. The deprecated calls nest them,
and so does the published example of the current one. Every call takes both forms. An order for a
contract that the ecosystem makes comes in JSON, XML or multipart.
"""

from functools import cached_property
from typing import Annotated, Any

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AliasChoices,
    AwareDatetime,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)

from plugvault.contract.data import ContractData
from plugvault.opcp.fields import (
    BASE64_PATTERN,
    UUID_PATTERN,
    Base64,
    EmaidText,
    Namespace,
    PcidText,
    Wire,
    decode,
)
from plugvault.pools import pcp
from plugvault.pools.caller import read_emaid
from plugvault.pools.errors import PoolError

URL_PATTERN = r"^(https?|http)://[-a-zA-Z0-9+&@#/%?=~_|!:,.;]*[-a-zA-Z0-9+&@#/%=~_|]"
SUBS = "contractSignatureCertChainSubCertificates list"
NO_XML = "The body is not XML."

# SHA-256 as the text says, or the UUID that the published pattern asks for.
Fingerprint = Annotated[str, Field(pattern=f"^[0-9a-fA-F]{{64}}$|{UUID_PATTERN}")]
RootFingerprint = Annotated[Fingerprint | None, Field(alias="cpsV2GRootCertificateFingerprint")]
Metadata = Annotated[
    str | None, Field(validation_alias=AliasChoices("metaData", "metadata"), max_length=4096)
]


class _Sealed(Wire):
    contract_signature_encrypted_private_key: Base64
    dh_point: Annotated[Base64, Field(alias="dHpublickey")]
    emaid: EmaidText | None = None


class SideBySide(_Sealed):
    """Contract data with the certificates side by side, as the schema of the current call has it.
    Each value is DER or ciphertext in base64."""

    contract_certificate: Base64
    contract_sub_ca2_certificate: Base64 | None = None
    contract_sub_ca1_certificate: Base64

    def chain(self) -> tuple[str, list[str]]:
        """The leaf, then the sub-CAs with Sub2 first; base64 of DER each."""
        subs = (self.contract_sub_ca2_certificate, self.contract_sub_ca1_certificate)
        return self.contract_certificate, [sub for sub in subs if sub]


class _Chain(Wire):
    contract_signature_cert_chain_certificate: Base64
    contract_signature_cert_chain_sub_certificates: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": BASE64_PATTERN})]],
        Field(min_length=1, max_length=2),
    ]


class Nested(_Sealed):
    """Contract data with the sub-CAs in a list, Sub2 first. Each value is DER or ciphertext in
    base64."""

    contract_signature_cert_chain: _Chain

    def chain(self) -> tuple[str, list[str]]:
        """The leaf, then the sub-CAs with Sub2 first; base64 of DER each."""
        chain = self.contract_signature_cert_chain
        return (
            chain.contract_signature_cert_chain_certificate,
            chain.contract_signature_cert_chain_sub_certificates,
        )


def _form(value: Any) -> str:
    nested = isinstance(value, Nested) or (
        isinstance(value, dict) and "contractSignatureCertChain" in value
    )
    return "nested" if nested else "flat"


class SignRequest(Wire):
    """Contract data for a CPS to sign. `pcid`: of the vehicle that will get the contract; `emaid`:
    if given, the CN of the contract certificate; `cpsV2GRootCertificateFingerprint`: SHA-256 in
    hexadecimal, or the UUID of the root in RCP."""

    contract_data: Annotated[
        Annotated[SideBySide, Tag("flat")] | Annotated[Nested, Tag("nested")],
        Discriminator(_form),
    ]
    xsd_msg_def_namespace: Namespace
    pcid: PcidText | None = None
    emaid: EmaidText | None = None
    fingerprint: RootFingerprint = None
    metadata: Metadata = None

    @cached_property
    def data(self) -> ContractData:
        """The decoded contract data, with the EMAID of its certificate.

        Raises PoolError("invalid") for a certificate that cannot be read, and for a stated EMAID
        that is not the certificate's CN.
        """
        data = self.contract_data
        leaf, subs = data.chain()
        certificate = decode(leaf)
        parsed = pcp.read_certificate(certificate, "contractCertificate")
        emaid = read_emaid(parsed.names.get("CN", ""))
        for stated in (self.emaid, data.emaid):
            if stated and read_emaid(stated) != emaid:
                raise PoolError("invalid", "emaid : must be the CN of the contract certificate")
        return ContractData(
            emaid,
            certificate,
            tuple(_sub(sub) for sub in subs),
            decode(data.contract_signature_encrypted_private_key),
            decode(data.dh_point),
        )


class DeprecatedSignRequest(SignRequest):
    """The body of the deprecated calls, where `pcid` and `emaid` are mandatory."""

    pcid: PcidText
    emaid: EmaidText


class GenerateRequest(Wire):
    """An order for a contract. `contractBegins`, `contractEnds`: ISO 8601 with a time zone;
    `subscription_url`: checked and not stored, because no call of OPCP returns it."""

    contract_begins: AwareDatetime
    contract_ends: AwareDatetime
    emaid: EmaidText
    pcid: PcidText
    xsd_msg_def_namespace: Namespace
    subscription_url: Annotated[str, Field(pattern=URL_PATTERN)] | None = None
    fingerprint: RootFingerprint = None
    metadata: Metadata = None


async def generate_request(request: Request) -> GenerateRequest:
    """The body, read in the form that its Content-Type names: JSON, XML or multipart.

    Raises PoolError("invalid") for another type or a body that is not of its type, and
    RequestValidationError for wrong members.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    read = READERS.get(kind.lower())
    if read is None:
        raise PoolError("invalid", f"Content-Type : must be one of {', '.join(READERS)}")
    members = await read(request)
    try:
        return GenerateRequest.model_validate(members)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as error:
        raise PoolError("invalid", "The body is not JSON.") from error


async def _xml(request: Request) -> dict[str, str]:
    """Each child of the root is a member; namespaces are ignored."""
    try:
        root = fromstring((await request.body()).decode(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise PoolError("invalid", NO_XML) from error
    return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in root}


async def _multipart(request: Request) -> dict[str, str]:
    async with request.form(max_files=0, max_fields=16) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


READERS = {
    "application/json": _json,
    "application/xml": _xml,
    "multipart/form-data": _multipart,
}


def _sub(text: str) -> bytes:
    try:
        sub = decode(text)
    except ValueError:
        sub = b""
    return pcp.read_certificate(sub, SUBS).der
