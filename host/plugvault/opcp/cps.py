"""CPS: sign contract data, or make it, and list the signers [OPCP 1.0.0, cps.v1]."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import AliasChoices, AwareDatetime, Field, model_validator

from evcc import x509 as strict
from plugvault.contract import xml
from plugvault.contract.bundle import ISO2
from plugvault.contract.issue import ContractData, issue_contract
from plugvault.opcp.fields import (
    Base64,
    EmaidText,
    Found,
    Namespace,
    PcidText,
    Wire,
    decode,
    encode,
)
from plugvault.opcp.rights import may
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, timestamp
from plugvault.pools import ccp, cps, pcp
from plugvault.pools.caller import Caller, read_emaid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Root

router = APIRouter(tags=["CPS: contract data"])

# SHA-256, or the UUID that the published regex asks for.
Fingerprint = Annotated[str, Field(pattern="^([0-9a-fA-F]{64}|[0-9a-fA-F-]{36})$")]
RootFingerprint = Annotated[Fingerprint | None, Field(alias="cpsV2GRootCertificateFingerprint")]
Metadata = Annotated[
    str | None, Field(validation_alias=AliasChoices("metaData", "metadata"), max_length=4096)
]


class ContractDataModel(Wire):
    contract_certificate: Base64
    contract_sub_ca2_certificate: Base64 | None = None
    contract_sub_ca1_certificate: Base64
    contract_signature_encrypted_private_key: Base64
    dh_point: Annotated[Base64, Field(alias="dHpublickey")]

    @model_validator(mode="before")
    @classmethod
    def flatten(cls, data: Any) -> Any:
        """The published example still nests the chain as older calls did."""
        if not isinstance(data, dict) or not isinstance(
            nested := data.get("contractSignatureCertChain"), dict
        ):
            return data
        subs = nested.get("contractSignatureCertChainSubCertificates")
        sub1, sub2 = ([*subs, None, None] if isinstance(subs, list) else [None, None])[:2][::-1]
        if sub1 is None:
            sub1, sub2 = sub2, None
        return {
            **data,
            "contractCertificate": nested.get("contractSignatureCertChainCertificate"),
            "contractSubCa2Certificate": sub2,
            "contractSubCa1Certificate": sub1,
        }


class SignRequest(Wire):
    contract_data: ContractDataModel
    xsd_msg_def_namespace: Namespace
    pcid: PcidText | None = None
    emaid: EmaidText | None = None
    fingerprint: RootFingerprint = None
    metadata: Metadata = None


class GenerateRequest(Wire):
    contract_begins: AwareDatetime
    contract_ends: AwareDatetime
    emaid: EmaidText
    pcid: PcidText
    xsd_msg_def_namespace: Namespace
    subscription_url: str | None = None
    fingerprint: RootFingerprint = None
    metadata: Metadata = None


@router.put(
    "/v1/cps/contractData/signed",
    status_code=201,
    summary="Sign an operator's contract data; with a pcid also store it in CCP",
)
def sign(
    caller: Annotated[Caller, Depends(may("cps.sign"))], found: Found, asked: SignRequest
) -> dict[str, Any]:
    now = found.clock()
    data = _contract_data(asked)
    with found.store.read() as records:
        message, signer = cps.sign(
            records,
            caller,
            found.signers,
            data,
            asked.pcid,
            now,
            asked.fingerprint,
        )
        root = cps.root_of(records, signer)
    if asked.pcid:
        with found.store.write() as records:
            ccp.put(records, message, asked.pcid, now, asked.metadata)
    return {
        "pcid": asked.pcid,
        "emaid": data.emaid,
        "xsdMsgDefNamespace": asked.xsd_msg_def_namespace,
        "signedData": encode(xml.write(message)),
        "cpsV2GRootCertificateFingerprint": root.fingerprint,
        "cpsRootDistinguishedName": _name(root),
        **({"metaData": asked.metadata} if asked.metadata else {}),
    }


@router.put(
    "/v1/cps/generate/signedContractData",
    status_code=201,
    summary="Make, sign and store a contract for an operator without an own PKI",
)
def generate(
    caller: Annotated[Caller, Depends(may("cps.generate"))],
    found: Found,
    asked: GenerateRequest,
) -> Response:
    """The ecosystem's MO CA issues the contract and seals its key for the vehicle."""
    if found.operator is None:
        raise PoolError("unavailable", "This ecosystem has no MO CA.")
    now = found.clock()
    emaid = read_emaid(asked.emaid)
    caller.owns_contract(emaid)
    begins, ends = _seconds(asked.contract_begins), _seconds(asked.contract_ends)
    if ends < now:
        raise PoolError("invalid", "The given contractEnds date is in the past.")
    with found.store.read() as records:
        cps.check_tupple(records, emaid, asked.pcid)
        vehicle = pcp.find(records, asked.pcid, now)
        if vehicle is None:
            raise PoolError("invalid", cps.NO_VEHICLE)
        data = issue_contract(
            emaid,
            vehicle.certificate,
            found.operator,
            now,
            begins=begins,
            ends=ends,
            ocsp=found.ocsp,
            organisation=caller.name,
        )
        message, _ = cps.sign(
            records,
            caller,
            found.signers,
            data,
            asked.pcid,
            now,
            asked.fingerprint,
        )
    with found.store.write() as records:
        ccp.put(records, message, asked.pcid, now, asked.metadata)
    return Response(status_code=201)


@router.get("/v1/cps/signer", summary="The CPS certificates in use")
@router.get("/cps/signer", include_in_schema=False)
def signers(_: Annotated[Caller, Depends(may("cps.signers"))], found: Found) -> dict[str, Any]:
    with found.store.read() as records:
        return {
            "cpsCertificates": [
                _signer(signer, cps.root_of(records, signer)) for signer in found.signers
            ]
        }


def _contract_data(asked: SignRequest) -> ContractData:
    given = asked.contract_data
    certificate = decode(given.contract_certificate)
    try:
        common_name = path.read(certificate).names.get("CN", "")
    except strict.CertificateError as error:
        raise PoolError("invalid", "Invalid certificate format on contractCertificate") from error
    emaid = read_emaid(common_name)
    if asked.emaid and read_emaid(asked.emaid) != emaid:
        raise PoolError("invalid", "emaid : must be the CN of the contract certificate")
    subs = (given.contract_sub_ca2_certificate, given.contract_sub_ca1_certificate)
    return ContractData(
        emaid,
        certificate,
        tuple(decode(sub) for sub in subs if sub),
        decode(given.contract_signature_encrypted_private_key),
        decode(given.dh_point),
    )


def _signer(signer: cps.Signer, root: Root) -> dict[str, Any]:
    certificate = path.read(signer.certificate)
    *sub2, sub1 = signer.subs
    return {
        "cpsDistinguishedName": distinguished_name(certificate.names),
        "cpsCertificate": encode(signer.certificate),
        "validFrom": timestamp(certificate.not_before),
        "validTo": timestamp(certificate.not_after),
        "organizationName": certificate.names.get("O", ""),
        "cpsV2GRootCertificateFingerprint": root.fingerprint,
        "cpsRootDistinguishedName": _name(root),
        "cpsSubCa1Certificate": encode(sub1),
        "cpsCa1Certificate": encode(sub1),
        **{
            name: encode(sub)
            for sub in sub2
            for name in ("cpsSubCa2Certificate", "cpsCa2Certificate")
        },
        "cpsRootCertificateId": root.root_id,
        "xsdMsgDefNamespace": ISO2,
    }


def _name(root: Root) -> str:
    return distinguished_name(path.read(root.certificate).names)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
