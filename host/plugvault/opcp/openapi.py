"""The parts of /openapi.json that FastAPI cannot derive: the published operationIds of OPCP 1.0.0,
and the bodies of answers that endpoints write themselves.

Clients are generated from this document: a generated client cannot read an answer without a
schema.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

Json = dict[str, Any]
_METHODS = ("get", "put", "post", "delete", "head", "patch")
_CCP = "/v1/ccp/signedContractData"
_PCP = "/v1/oem/provCerts"
_ROOTS = "/v1/root/rootCerts"
_HOOKS = "/v1/webhook/endpoints"

# (method, path): the operationId in the published documents
IDS = {
    ("post", _CCP): "getSignedContractData",
    ("put", _CCP): "addSignedContractData",
    ("delete", _CCP + "/{emaid}"): "deleteSignedContractData",
    ("get", "/v1/ccp/provideSignedContractData/{emaid}/{pcid}"): "provideSignedContractData",
    ("get", _CCP + "/{pcid}"): "getContracts",
    ("get", "/v1/ccp/lookupContract/{emaid}"): "lookupContract",
    ("post", _CCP + "/{pcid}/{emaid}/default"): "setDefaultContract",
    ("put", "/v1/cps/contractData/signed"): "put-v1-cps-signContractData",
    ("put", "/v1/cps/signedContractData"): "createSignedContractData",
    ("put", "/v1/cps/forward/signedContractData"): "createAndForwardSignedContractData",
    ("put", "/v1/cps/generate/signedContractData"): "generateSignedContractData",
    ("get", "/v1/cps/signer"): "get-cps-signer",
    ("put", _PCP): "addOEMProvCert",
    ("get", _PCP + "/lookupVehicle/{pcid}"): "lookupVehicle",
    ("get", _PCP + "/{pcid}"): "getOEMProvCert",
    ("delete", _PCP + "/{pcid}"): "deleteOEMProvCert",
    ("get", _ROOTS): "getAllRootCerts",
    ("put", _ROOTS): "put-v1-root-rootCerts",
    ("get", _ROOTS + "/{rootCertificateId}"): "getRootCert",
    ("delete", _ROOTS + "/{rootCertificateId}"): "delete-v1-root-rootCerts-rootCertificateId",
    ("get", "/v1/root/ctl"): "get-v1-root-ctl",
    ("post", "/oauth/token"): "issue-token",
    ("post", "/.well-known/est/{ca}/simpleenroll/{iso}"): "simpleenroll",
    ("get", "/{ca}/cacerts/{iso}/{algorithm}/"): "cacerts",
    ("get", _HOOKS): "get-webhook-endpoints",
    ("post", _HOOKS): "create-webhook-endpoint",
    ("get", _HOOKS + "/{id}"): "get-webhook-endpoint",
    ("put", _HOOKS + "/{id}"): "update-webhook-endpoint",
    ("delete", _HOOKS + "/{id}"): "delete-webhook-endpoint",
}


def _object(required: Mapping[str, Json], **optional: Json) -> Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
    }


_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_BASE64: Json = {"type": "string", "contentEncoding": "base64"}
_ENDPOINT = _object(
    {
        "id": _TEXT,
        "url": _TEXT,
        "enabledEvents": {"type": "array", "items": _TEXT},
        "status": {"enum": ["enabled", "disabled"]},
    },
    secret=_TEXT,
)
_BUNDLE = _object({"certificateInstallationRes": _BASE64}, emaid=_TEXT)
_CONTENT = {"type": "array", "items": _object({"messageDef": _BUNDLE})}

_CERTS_ONLY = {"application/pkcs7-mime": _BASE64}
_REPLAYED = {"application/json": _object({"replayed": _COUNT})}
NO_BODY: Json = {}
# (method, path): {media type: schema} of the success answer; NO_BODY where it has none
BODIES: dict[tuple[str, str], Json] = {
    ("post", _CCP): {
        "application/json": _object({"CCPResponse": _object({"emaidContent": _CONTENT})})
    },
    ("put", _CCP): NO_BODY,
    ("delete", _CCP + "/{emaid}"): NO_BODY,
    ("post", _CCP + "/{pcid}/{emaid}/default"): NO_BODY,
    ("put", "/v1/cps/generate/signedContractData"): NO_BODY,
    ("get", _PCP + "/lookupVehicle/{pcid}"): NO_BODY,
    ("head", _PCP + "/{pcid}"): NO_BODY,
    ("delete", _PCP + "/{pcid}"): NO_BODY,
    ("post", _PCP + "/{pcid}/factoryReset"): NO_BODY,
    ("put", _ROOTS): NO_BODY,
    ("delete", _ROOTS + "/{rootCertificateId}"): NO_BODY,
    ("post", "/oauth/token"): {
        "application/json": _object(
            {
                "access_token": _TEXT,
                "scope": _TEXT,
                "expires_in": _COUNT,
                "token_type": {"const": "Bearer"},
            }
        )
    },
    ("post", "/v1/ccp/terminate/{provider}"): {
        "application/json": _object(
            {"jobId": _TEXT, "provider": _TEXT, "state": _TEXT, "contractsEnded": _COUNT}
        )
    },
    ("post", "/.well-known/est/{ca}/simpleenroll/{iso}"): _CERTS_ONLY,
    ("post", "/.well-known/est/{ca}/simplereenroll/{iso}"): _CERTS_ONLY,
    ("get", "/{ca}/cacerts/{iso}/{algorithm}/"): _CERTS_ONLY,
    ("get", "/crl/{name}.crl"): {"application/pkix-crl": {"type": "string", "format": "binary"}},
    ("get", _HOOKS): {"application/json": {"type": "array", "items": _ENDPOINT}},
    ("post", _HOOKS): {"application/json": _ENDPOINT},
    ("get", _HOOKS + "/{id}"): {"application/json": _ENDPOINT},
    ("put", _HOOKS + "/{id}"): {"application/json": _ENDPOINT},
    ("get", _HOOKS + "/{id}/deliveries"): {
        "application/json": _object({"deliveries": {"type": "array", "items": {"type": "object"}}})
    },
    ("post", _HOOKS + "/{id}/deliveries/replay"): _REPLAYED,
    ("post", _HOOKS + "/{id}/deliveries/{eventId}/replay"): _REPLAYED,
    ("get", "/v1/events"): {"text/event-stream": _TEXT},
}


def complete(app: FastAPI) -> None:
    """Add these parts to the /openapi.json of an application."""
    generate = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            document = generate()
            for path, calls in document["paths"].items():
                for method in calls.keys() & set(_METHODS):
                    _complete(calls[method], (method, path))
        return app.openapi_schema or generate()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _complete(call: Json, key: tuple[str, str]) -> None:
    call["operationId"] = IDS.get(key, call["operationId"])
    answers = {code: row for code, row in call["responses"].items() if code.startswith("2")}
    for status, answer in answers.items():
        bodies = BODIES.get(key)
        if bodies is None or (status == "202" and len(answers) > 1):  # 202: a change that waits
            pass
        elif bodies:
            answer["content"] = {kind: {"schema": body} for kind, body in bodies.items()}
        else:
            answer.pop("content", None)
        for body in answer.get("content", {}).values():
            body["schema"] = body.get("schema") or {"type": "null"}
