"""What a person cannot type: what has to be signed, sealed or issued for the collection.

Made as the roles make it, over HTTP where there is a call for it, with the sample vehicles' keys
in their token. The vehicles made here are nowhere registered; the collection does that.
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

from evcc import csr, exi, ids, messages, signature, x509
from plugvault.hsm import Token, TokenKey
from plugvault.pki.issue import der, root
from plugvault.pki.keys import raw_signer
from plugvault.pki.names import timestamp
from plugvault.roles.client import Credentials, encode
from plugvault.roles.mo import Operator, Vehicle
from plugvault.roles.oem import Maker

DAY = 86_400
_ROLES = {
    "maker": "OEM",
    "stations": "CPO",
    "operator": "MO_EXTERNAL_PKI",
    "hosted": "MO_HUBJECT_PKI",
    "administrator": "ADMIN",
}


@dataclass(frozen=True)
class Bench:
    """What the values are made with. `vehicles`: the token of the sample vehicles' keys, a key's
    label its PCID; `company`: the maker's name; `v2g_roots`: in the vehicles, DER, this
    ecosystem's first; `hosted`: provider of the operator without a PKI; `made`: keys made here,
    by their label."""

    url: str
    credentials: Mapping[str, Credentials]
    vehicles: Token
    maker: Maker
    operator: Operator
    company: str
    v2g_roots: Sequence[bytes]
    hosted: str
    evseid: str
    made: dict[str, TokenKey] = field(default_factory=dict)


def values(bench: Bench, cars: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Every variable of the collection, but the partners'. `cars`: three sample vehicles, the
    first with a contract. Raises OpcpError."""
    now = time.time()
    first, second, third = (bench.operator.vehicle(car["pcid"]) for car in cars)
    new, rekeyed = _pcid(), _pcid()
    before = _enrolled(bench, rekeyed, "before")
    return {
        "url": bench.url,
        "token_url": f"{bench.url}/oauth/token",
        "audience": bench.url,
        **_credentials(bench),
        **_cars(cars),
        "v2g_root_key_identifier": (x509.parse(bench.v2g_roots[0]).ski or b"").hex(":"),
        "begins": timestamp(now - 3600),
        "ends": timestamp(now + 365 * DAY),
        "hosted_provider": bench.hosted,
        "hosted_emaid": _emaid(bench.hosted),
        "leaving_emaid": _emaid(bench.hosted),
        "new_pcid": new,
        "new_request": encode(_request(bench, new, "first")),
        **_vehicle("new", _enrolled(bench, new, "first")),
        **_contract("own", bench, second),
        **_renewal(bench, third),
        **_contract("ended", bench, third),
        "rekeyed_pcid": rekeyed,
        **_vehicle("rekeyed_before", before),
        **_vehicle("rekeyed_after", _enrolled(bench, rekeyed, "after")),
        **_contract("rekeyed", bench, before),
        "installation_request": installation_request(bench, first),
        "request_without_contract": _stranger(bench),
        "another_root": _another_root(now),
        "webhook_url": "https://example.com/plug-and-charge/events",
        "station_evseid": bench.evseid,
        "station_request": encode(_station(bench.evseid)),
    }


def partner(bench: Bench, cars: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Variables that speak of another ecosystem's sample vehicles."""
    contracted, _, unseen = cars
    vehicle = bench.operator.vehicle(contracted["pcid"])
    return {
        "partner_pcid": contracted["pcid"],
        "partner_unseen_pcid": unseen["pcid"],
        "partner_installation_request": installation_request(bench, vehicle),
    }


def installation_request(bench: Bench, vehicle: Vehicle, label: str | None = None) -> str:
    """A vehicle's CertificateInstallationReq, signed with its key: EXI in base64."""
    roots = [x509.parse(one) for one in bench.v2g_roots]
    body = messages.certificate_installation_req("id1", vehicle.certificate, roots)
    key = bench.vehicles.key(label or vehicle.pcid)
    signed = signature.sign([("id1", "CertificateInstallationReq", body)], raw_signer(key))
    session = secrets.token_bytes(8)
    return encode(
        exi.encode(messages.envelope(session, "CertificateInstallationReq", body, signed))
    )


def _credentials(bench: Bench) -> dict[str, str]:
    found = {}
    for name, role in _ROLES.items():
        found[f"{name}_id"] = bench.credentials[role].client_id
        found[f"{name}_secret"] = bench.credentials[role].client_secret
    return found


def _cars(cars: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {
        f"car{number}_{name}": value
        for number, car in enumerate(cars, 1)
        for name, value in car.items()
    }


def _pcid() -> str:
    """Of a vehicle that nobody has, in the number range of the sample vehicles' maker."""
    return f"PVTPTRY{secrets.randbelow(10**10):010}"


def _emaid(provider: str) -> str:
    base = f"{provider}C{secrets.randbelow(10**8):08}"
    return base + ids.emaid_check_digit(base)


def _key(bench: Bench, pcid: str, which: str) -> TokenKey:
    label = f"{pcid}-{which}"
    if label not in bench.made:
        bench.made[label] = bench.vehicles.generate(label)
    return bench.made[label]


def _request(bench: Bench, pcid: str, which: str) -> bytes:
    key = _key(bench, pcid, which)
    return csr.build(pcid, bench.company, "DE", key.point, raw_signer(key))


def _enrolled(bench: Bench, pcid: str, which: str) -> Vehicle:
    leaf, subs = bench.maker.enrol(_request(bench, pcid, which))
    return Vehicle(pcid, leaf, tuple(subs))


def _vehicle(prefix: str, vehicle: Vehicle) -> dict[str, str]:
    sub2, sub1 = vehicle.subs
    return {
        f"{prefix}_certificate": encode(vehicle.certificate),
        f"{prefix}_sub2": encode(sub2),
        f"{prefix}_sub1": encode(sub1),
    }


def _contract(
    prefix: str, bench: Bench, vehicle: Vehicle, emaid: str | None = None
) -> dict[str, str]:
    emaid = emaid or bench.operator.new_emaid()
    data = bench.operator.issue(vehicle, emaid)
    sub2, sub1 = data.subs
    return {
        f"{prefix}_emaid": emaid,
        f"{prefix}_certificate": encode(data.certificate),
        f"{prefix}_sub2": encode(sub2),
        f"{prefix}_sub1": encode(sub1),
        f"{prefix}_encrypted_key": encode(data.wrapped),
        f"{prefix}_dh_public_key": encode(data.dh_point),
    }


def _renewal(bench: Bench, vehicle: Vehicle) -> dict[str, str]:
    emaid = bench.operator.new_emaid()
    return {
        **_contract("first", bench, vehicle, emaid),
        **_contract("renewed", bench, vehicle, emaid),
    }


def _stranger(bench: Bench) -> str:
    """A request of a vehicle with a good certificate that is in no pool."""
    pcid = _pcid()
    return installation_request(bench, _enrolled(bench, pcid, "first"), f"{pcid}-first")


def _another_root(now: float) -> str:
    """A root of a private environment; its key is gone at once, for it issues nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = {"C": "DE", "O": "Example Yard", "CN": f"Private Root CA {secrets.token_hex(4)}"}
    return encode(der(root("v2g", names, key, now).certificate))


def _station(evseid: str) -> bytes:
    """A charging station's PKCS#10; its key is gone at once, for this station never charges."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        certificates.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        certificates.NameAttribute(NameOID.ORGANIZATION_NAME, "Example CPO"),
        certificates.NameAttribute(NameOID.COMMON_NAME, evseid),
    ]
    request = certificates.CertificateSigningRequestBuilder(certificates.Name(names))
    return request.sign(key, SHA256()).public_bytes(Encoding.DER)
