"""The values of the collection that a user cannot type: signed, sealed and issued ones.

They are made as the companies make them, over HTTP where a call exists, with the sample vehicles'
keys in their token. The vehicles made here are not registered; the collection registers them.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evcc import csr, exi, signature, x509
from evcc.check_digit import emaid_check_digit
from evcc.iso15118_2 import messages
from plugvault.pki.issue import der, root
from plugvault.pki.keys import raw_signer
from plugvault.pki.names import timestamp
from plugvault.roles.client import Credentials, encode
from plugvault.roles.mo import Operator, ProvisioningChain
from plugvault.roles.oem import VehicleMaker
from plugvault.tokens import Token, TokenKey

DAY = 86_400
_ROLES = {
    "maker": "OEM",
    "stations": "CPO",
    "operator": "MO_EXTERNAL_PKI",
    "hosted": "MO_HUBJECT_PKI",
    "administrator": "ADMIN",
}


@dataclass(frozen=True)
class Inputs:
    """The companies, keys and names that the values are made with.

    vehicles: the token of the sample vehicles' keys, whose labels are PCIDs. company: the maker's
    name. v2g_roots: in the vehicles, DER, this ecosystem's first. hosted: provider of the operator
    without a PKI. new_keys: of the vehicles made here, by their label.
    """

    url: str
    credentials: Mapping[str, Credentials]
    vehicles: Token
    maker: VehicleMaker
    operator: Operator
    company: str
    v2g_roots: Sequence[bytes]
    hosted: str
    evseid: str
    new_keys: dict[str, TokenKey] = field(default_factory=dict)


def values(inputs: Inputs, cars: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The variables of the collection, without the partners'. `cars`: three sample vehicles, the
    first with a contract. Raises OpcpError."""
    now = time.time()
    first, second, third = (inputs.operator.vehicle(car["pcid"]) for car in cars)
    new, rekeyed = _pcid(), _pcid()
    before = _enrolled(inputs, rekeyed, "before")
    return {
        "url": inputs.url,
        "token_url": f"{inputs.url}/oauth/token",
        "audience": inputs.url,
        **_credentials(inputs),
        **_cars(cars),
        "v2g_root_key_identifier": (x509.parse(inputs.v2g_roots[0]).ski or b"").hex(":"),
        "begins": timestamp(now - 3600),
        "ends": timestamp(now + 365 * DAY),
        "hosted_provider": inputs.hosted,
        "hosted_emaid": _emaid(inputs.hosted),
        "leaving_emaid": _emaid(inputs.hosted),
        "new_pcid": new,
        "new_request": encode(_request(inputs, new, "first")),
        **_vehicle("new", _enrolled(inputs, new, "first")),
        **_contract("own", inputs, second),
        **_renewal(inputs, third),
        **_contract("ended", inputs, third),
        "rekeyed_pcid": rekeyed,
        **_vehicle("rekeyed_before", before),
        **_vehicle("rekeyed_after", _enrolled(inputs, rekeyed, "after")),
        **_contract("rekeyed", inputs, before),
        "installation_request": installation_request(inputs, first),
        "request_without_contract": _request_without_contract(inputs),
        "another_root": _private_root(now),
        "webhook_url": "https://example.com/plug-and-charge/events",
        "station_evseid": inputs.evseid,
        "station_request": encode(_station(inputs.evseid)),
    }


def partner(inputs: Inputs, cars: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The variables for another ecosystem's sample vehicles."""
    contracted, _, unseen = cars
    vehicle = inputs.operator.vehicle(contracted["pcid"])
    return {
        "partner_pcid": contracted["pcid"],
        "partner_unseen_pcid": unseen["pcid"],
        "partner_installation_request": installation_request(inputs, vehicle),
    }


def installation_request(
    inputs: Inputs, vehicle: ProvisioningChain, label: str | None = None
) -> str:
    """A vehicle's CertificateInstallationReq, signed with its key: EXI in base64."""
    roots = [x509.parse(root) for root in inputs.v2g_roots]
    body = messages.certificate_installation_req("id1", vehicle.certificate, roots)
    key = inputs.vehicles.key(label or vehicle.pcid)
    signed = signature.sign([("id1", "CertificateInstallationReq", body)], raw_signer(key))
    session = secrets.token_bytes(8)
    return encode(
        exi.encode(messages.envelope(session, "CertificateInstallationReq", body, signed))
    )


def _credentials(inputs: Inputs) -> dict[str, str]:
    variables = {}
    for name, role in _ROLES.items():
        variables[f"{name}_id"] = inputs.credentials[role].client_id
        variables[f"{name}_secret"] = inputs.credentials[role].client_secret
    return variables


def _cars(cars: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {
        f"car{number}_{name}": value
        for number, car in enumerate(cars, 1)
        for name, value in car.items()
    }


def _pcid() -> str:
    """A PCID without a vehicle, in the number range of the sample vehicles' maker."""
    return f"PVTPTRY{secrets.randbelow(10**10):010}"


def _emaid(provider: str) -> str:
    base = f"{provider}C{secrets.randbelow(10**8):08}"
    return base + emaid_check_digit(base)


def _key(inputs: Inputs, pcid: str, which: str) -> TokenKey:
    label = f"{pcid}-{which}"
    if label not in inputs.new_keys:
        inputs.new_keys[label] = inputs.vehicles.generate(label)
    return inputs.new_keys[label]


def _request(inputs: Inputs, pcid: str, which: str) -> bytes:
    key = _key(inputs, pcid, which)
    return csr.build(pcid, inputs.company, "DE", key.point, raw_signer(key))


def _enrolled(inputs: Inputs, pcid: str, which: str) -> ProvisioningChain:
    leaf, subs = inputs.maker.enrol(_request(inputs, pcid, which))
    return ProvisioningChain(pcid, leaf, tuple(subs))


def _vehicle(prefix: str, vehicle: ProvisioningChain) -> dict[str, str]:
    sub2, sub1 = vehicle.subs
    return {
        f"{prefix}_certificate": encode(vehicle.certificate),
        f"{prefix}_sub2": encode(sub2),
        f"{prefix}_sub1": encode(sub1),
    }


def _contract(
    prefix: str, inputs: Inputs, vehicle: ProvisioningChain, emaid: str | None = None
) -> dict[str, str]:
    emaid = emaid or inputs.operator.new_emaid()
    data = inputs.operator.issue(vehicle, emaid)
    sub2, sub1 = data.subs
    return {
        f"{prefix}_emaid": emaid,
        f"{prefix}_certificate": encode(data.certificate),
        f"{prefix}_sub2": encode(sub2),
        f"{prefix}_sub1": encode(sub1),
        f"{prefix}_encrypted_key": encode(data.wrapped),
        f"{prefix}_dh_public_key": encode(data.dh_point),
    }


def _renewal(inputs: Inputs, vehicle: ProvisioningChain) -> dict[str, str]:
    emaid = inputs.operator.new_emaid()
    return {
        **_contract("first", inputs, vehicle, emaid),
        **_contract("renewed", inputs, vehicle, emaid),
    }


def _request_without_contract(inputs: Inputs) -> str:
    """A request of a vehicle with a valid certificate that is in no pool."""
    pcid = _pcid()
    return installation_request(inputs, _enrolled(inputs, pcid, "first"), f"{pcid}-first")


def _private_root(now: float) -> str:
    """A root of a private environment. Its key is not kept, because it issues nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = {"C": "DE", "O": "Example Yard", "CN": f"Private Root CA {secrets.token_hex(4)}"}
    return encode(der(root("v2g", names, key, now).certificate))


def _station(evseid: str) -> bytes:
    """A charging station's PKCS#10. Its key is not kept, because this station never charges."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        certificates.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        certificates.NameAttribute(NameOID.ORGANIZATION_NAME, "Example CPO"),
        certificates.NameAttribute(NameOID.COMMON_NAME, evseid),
    ]
    request = certificates.CertificateSigningRequestBuilder(certificates.Name(names))
    return request.sign(key, SHA256()).public_bytes(Encoding.DER)
