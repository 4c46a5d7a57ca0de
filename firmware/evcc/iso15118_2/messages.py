"""The ISO 15118-2 messages of a session up to authorization, as plain values for the EXI codec.

Builders make the vehicle's request bodies, readers take values from the station's responses. Both
ends share the envelope and the service numbers. ISO 15118-2:2014, 8.3 (message frame), 8.4.3
(bodies), 8.6.3 table 105 (services). Encoding, signatures and the checks against a session are
elsewhere: see `exi`, `signature` and `session`.
"""

from evcc.vault.schemes import SCHEMES

SCHEMA = "iso2"  # of the EXI codec
NAMESPACE = SCHEMES["iso2"].namespace
VERSION = (2, 0)

CERTIFICATE_SERVICE = 2  # ServiceID of the contract certificate service

NO_SESSION = b"\0"  # the SessionID of a SessionSetupReq that begins a new session


def envelope(session_id: bytes, name: str, body: dict, signature=None) -> dict:
    """A V2G_Message with one body element. session_id: 1 to 8 bytes. signature: the `Signature`
    element, or None."""
    header = {"SessionID": session_id}
    if signature is not None:
        header["Signature"] = signature
    return {"V2G_Message": {"Header": header, "Body": {name: body}}}


def opened(message: dict) -> tuple:
    """(session id, name of the body element, its value, signature or None) of a V2G_Message.

    The name is "" for an empty body, which the schema allows, and for another element of the
    schema as the document, which EXI allows.
    """
    if "V2G_Message" not in message:
        return NO_SESSION, "", {}, None
    header = message["V2G_Message"]["Header"]
    for name, body in message["V2G_Message"]["Body"].items():
        return header["SessionID"], name, body, header.get("Signature")
    return header["SessionID"], "", {}, header.get("Signature")


def supported_app_protocol_req(schema_id: int = 1) -> dict:
    """The offer of ISO 15118-2 alone. This message has no V2G_Message around it."""
    offer = {
        "ProtocolNamespace": NAMESPACE,
        "VersionNumberMajor": VERSION[0],
        "VersionNumberMinor": VERSION[1],
        "SchemaID": schema_id,
        "Priority": 1,
    }
    return {"AppProtocol": [offer]}


def session_setup_req(evccid: bytes) -> dict:
    """The body of a SessionSetupReq. evccid: 6 bytes, a MAC address."""
    return {"EVCCID": evccid}


def service_discovery_req() -> dict:
    """The body of a ServiceDiscoveryReq without its optional filters."""
    return {}


def service_detail_req(service_id: int) -> dict:
    """The body of a ServiceDetailReq for the service with this ServiceID."""
    return {"ServiceID": service_id}


def payment_service_selection_req(option: str, services: list) -> dict:
    """The body of a PaymentServiceSelectionReq. option: "Contract" or "ExternalPayment".
    services: [(ServiceID, ParameterSetID or None)]."""
    selected = []
    for service_id, parameter_set in services:
        service = {"ServiceID": service_id}
        if parameter_set is not None:
            service["ParameterSetID"] = parameter_set
        selected.append(service)
    return {"SelectedPaymentOption": option, "SelectedServiceList": {"SelectedService": selected}}


def certificate_installation_req(ident: str, certificate: bytes, roots: list) -> dict:
    """The body of a CertificateInstallationReq. ident: the Id for the signature. certificate: the
    provisioning leaf, DER, at most 800 bytes. roots: 1..20 x509.Certificate (a trust store holds
    fewer), the V2G roots of the car."""
    return {
        "Id": ident,
        "OEMProvisioningCert": certificate,
        "ListOfRootCertificateIDs": root_certificate_ids(roots),
    }


def root_certificate_ids(roots: list) -> dict:
    """ListOfRootCertificateIDs of 1..20 x509.Certificate."""
    ids = [
        {"X509IssuerName": distinguished_name(root.names), "X509SerialNumber": root.serial}
        for root in roots
    ]
    return {"RootCertificateID": ids}


def payment_details_req(emaid: str, chain: list) -> dict:
    """The body of a PaymentDetailsReq. emaid: 14..15 characters. chain: [leaf, sub-CA 2, sub-CA
    1], DER."""
    return {"eMAID": emaid, "ContractSignatureCertChain": certificate_chain(chain)}


def authorization_req(ident: str, challenge: bytes) -> dict:
    """The body of an AuthorizationReq. ident: the Id for the signature. challenge: the 16 bytes of
    the PaymentDetailsRes."""
    return {"Id": ident, "GenChallenge": challenge}


def session_stop_req(pause: bool = False) -> dict:
    """The body of a SessionStopReq. pause: whether a later session may resume this one."""
    return {"ChargingSession": "Pause" if pause else "Terminate"}


def certificate_chain(ders: list) -> dict:
    """The CertificateChainType of [leaf, sub-CA 2, sub-CA 1], DER."""
    element = {"Certificate": ders[0]}
    if len(ders) > 1:
        element["SubCertificates"] = {"Certificate": list(ders[1:])}
    return element


def certificates(chain: dict) -> list:
    """[leaf, sub-CA 2, sub-CA 1] of a CertificateChainType, DER, as many as it holds."""
    subs = chain.get("SubCertificates", {})
    return [chain["Certificate"]] + list(subs.get("Certificate", []))


def services(body: dict) -> list:
    """The ServiceIDs that a ServiceDiscoveryRes offers beside charging."""
    offered = body.get("ServiceList", {})
    return [service["ServiceID"] for service in offered.get("Service", [])]


def parameter_set(body: dict, service: str):
    """The ParameterSetID of a ServiceDetailRes that means "Installation" or "Update"; or None."""
    offered = body.get("ServiceParameterList", {})
    for row in offered.get("ParameterSet", []):
        for parameter in row["Parameter"]:
            if parameter["Name"] == "Service" and parameter.get("stringValue") == service:
                return row["ParameterSetID"]
    return None


def distinguished_name(names: dict) -> str:
    """An issuer's name as text, like RFC 4514: "CN=V2G Root,O=...,C=DE,DC=V2G".

    names: {"CN": ..., "O": ...}. Peers order the parts differently, and readers compare them as a
    set. Here the order is fixed, so that the signed bytes are the same on every runtime.
    """
    kinds = [kind for kind in ("CN", "OU", "O", "C", "DC") if kind in names]
    return ",".join(kind + "=" + _escaped(names[kind]) for kind in kinds)


def _escaped(value: str) -> str:
    text = "".join("\\" + c if c in ',+"\\<>;=' else c for c in value)
    if text[:1] in ("#", " "):
        text = "\\" + text
    return text
