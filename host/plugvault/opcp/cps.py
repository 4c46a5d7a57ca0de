"""CPS: sign contract data, generate contracts, and list the signers [OPCP 1.0.0, cps.v1].

The signature, the record of its DH point and the contract in CCP are one transaction. If no CPS of
this ecosystem stands under a root of the vehicle, the partners are asked. Their bundle is checked
as every other bundle is.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from plugvault.contract.iso15118_2 import response, xml
from plugvault.contract.iso15118_2.bundle import ISO2, Message
from plugvault.opcp.contract_data import (
    READERS,
    DeprecatedSignRequest,
    GenerateRequest,
    SignRequest,
    generate_request,
)
from plugvault.opcp.execution import asks_partners, local
from plugvault.opcp.fields import AppServices, encode
from plugvault.opcp.rights import may
from plugvault.opcp.services import Services
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, timestamp
from plugvault.pools import authorization, ccp, certificates, cps, envelopes, rcp
from plugvault.pools.caller import Caller
from plugvault.pools.contracts import SignedContract
from plugvault.pools.errors import PoolError, UnknownRootError
from plugvault.pools.records import Root
from plugvault.pools.repositories import Records

router = APIRouter(tags=["CPS: contract data"])

Signing = Annotated[Caller, Depends(may("cps.sign"))]
Work = Callable[[Records, float], SignedContract]


def _asks_others(services: Services, body: SignRequest, **_: object) -> bool:
    """Whether signing waits for a partner, or for the OCSP responder of another CA."""
    certificates = body.data.certificate, *body.data.subs
    return asks_partners(services) or services.revocations_are_due(certificates)


@router.put(
    "/v1/cps/contractData/signed",
    status_code=201,
    summary="Sign contract data; with a pcid also store the contract in CCP",
)
@local(unless=_asks_others)
def sign(caller: Signing, services: AppServices, body: SignRequest) -> dict[str, Any]:
    """`signedData` is the XML of the signed CertificateInstallationRes, in base64. 400 for
    contract data that fail a check; 403 for an EMAID of another operator; 409 for a DH point or a
    key of another contract; 503 when the CPS cannot sign."""
    return _sign(caller, services, body, body.pcid is not None)


@router.put(
    "/v1/cps/signedContractData", summary="Deprecated: sign contract data", deprecated=True
)
def sign_only(
    caller: Signing, services: AppServices, body: DeprecatedSignRequest
) -> dict[str, Any]:
    """As `PUT /v1/cps/contractData/signed`, and the contract is never stored."""
    return _sign(caller, services, body, False)


@router.put(
    "/v1/cps/forward/signedContractData",
    status_code=201,
    summary="Deprecated: sign contract data and store the contract in CCP",
    deprecated=True,
)
def sign_and_store(
    caller: Signing, services: AppServices, body: DeprecatedSignRequest
) -> dict[str, Any]:
    """As `PUT /v1/cps/contractData/signed` with a `pcid`; the answer is an empty object."""
    _sign(caller, services, body, True)
    return {}


_GENERATE = GenerateRequest.model_json_schema(by_alias=True)


@router.put(
    "/v1/cps/generate/signedContractData",
    status_code=201,
    summary="Generate, sign and store a contract for an operator without a PKI",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": _GENERATE} for kind in READERS},
        }
    },
)
def generate(
    caller: Annotated[Caller, Depends(may("cps.generate"))],
    services: AppServices,
    body: Annotated[GenerateRequest, Depends(generate_request)],
) -> Response:
    """The ecosystem's MO CA issues the contract certificate, seals its private key for the
    vehicle, and the CPS signs both. 503 in an ecosystem without an MO CA."""
    operator = services.operator
    if operator is None:
        raise PoolError("unavailable", "This ecosystem has no MO CA.")

    def work(records: Records, now: float) -> SignedContract:
        return cps.generate(
            records,
            caller,
            services.signers,
            operator,
            body.emaid,
            body.pcid,
            now,
            begins=body.contract_begins.timestamp(),
            ends=body.contract_ends.timestamp(),
            ocsp=services.ocsp,
            fingerprint=body.fingerprint,
        )

    _provision(
        services,
        caller,
        "cps.generate",
        work,
        body.pcid,
        body.metadata,
        stored=True,
        issued=True,
    )
    return Response(status_code=201)


@router.get("/v1/cps/signer", summary="List the CPS certificates in use")
@router.get("/cps/signer", include_in_schema=False)
def signers(
    _: Annotated[Caller, Depends(may("cps.signers"))], services: AppServices
) -> dict[str, Any]:
    """Each CPS with its certificates (DER in base64) and the V2G root above it."""
    with services.store.read() as records:
        return {
            "cpsCertificates": [
                _signer(signer, cps.root_of(records, signer)) for signer in services.signers
            ]
        }


def _sign(caller: Caller, services: Services, body: SignRequest, stored: bool) -> dict[str, Any]:
    data = body.data
    authorization.check(caller, "cps.sign", emaid=data.emaid)  # before its OCSP address is called
    services.update_revocations((data.certificate, *data.subs), caller.client_id)

    def work(records: Records, now: float) -> SignedContract:
        return cps.sign(records, caller, services.signers, data, body.pcid, now, body.fingerprint)

    message, root = _provision(
        services, caller, "cps.sign", work, body.pcid, body.metadata, stored=stored
    )
    return {
        "pcid": body.pcid,
        "emaid": data.emaid,
        "xsdMsgDefNamespace": body.xsd_msg_def_namespace,
        "signedData": encode(xml.write(message)),
        "cpsV2GRootCertificateFingerprint": root.fingerprint,
        "cpsRootDistinguishedName": _name(root.certificate),
        **({"metaData": body.metadata} if body.metadata else {}),
    }


def _provision(
    services: Services,
    caller: Caller,
    operation: str,
    work: Work,
    pcid: str | None,
    metadata: str | None,
    *,
    stored: bool,
    issued: bool = False,
) -> tuple[Message, Root]:
    """Sign contract data and, if `stored`, store the contract. Return the bundle and the root
    above its CPS.

    `operation`: the caller's right; `issued`: the MO CA of this ecosystem issued the contract.
    """
    if services.peers and pcid:
        services.peers.refresh_vehicle(pcid)
    now = services.clock()

    def attempt() -> tuple[Message, Root]:
        with services.store.write() as records:
            signed = work(records, now)
            if stored:
                ccp.keep(records, signed, now, metadata)
            return signed.message, signed.root

    try:
        try:
            return attempt()
        except UnknownRootError:
            if not (services.peers and services.peers.fetch_roots()):
                raise
            return attempt()
    except cps.NoSignerError as missing:
        data, message = missing.data, _sign_at_partner(services, missing)
    with services.store.write() as records:
        if stored and pcid:
            if issued:
                certificates.record(records, data.certificate)
            ccp.put(records, caller, message, pcid, now, metadata, operation=operation)
        else:
            envelopes.take(records, data, now)
        root = ccp.check_bundle(records, message, now).root
        return message, rcp.by_fingerprint(records, path.fingerprint(root.der))


def _sign_at_partner(services: Services, missing: cps.NoSignerError) -> Message:
    """The bundle of a partner's CPS. Raises `missing` when no partner can sign."""
    message = None
    if services.peers and missing.vehicle:
        message = services.peers.sign(missing.data, missing.vehicle)
    if message is None:
        raise missing
    try:
        same = response.read(message).contract == missing.data
    except response.ResponseError:
        same = False
    if not same:
        raise PoolError("unavailable", "The CPS of another ecosystem has signed other data.")
    return message


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
        "cpsRootDistinguishedName": _name(root.certificate),
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


@lru_cache(maxsize=64)  # few roots are above all contracts
def _name(root: bytes) -> str:
    return distinguished_name(path.read(root).names)
