"""A client written from OPCP's published OpenAPI files alone gets through every business process.

httpx and cryptography, nothing of ours: a vehicle, its maker, an operator with a PKI of its own,
one without, a charge point operator and an administrator, each with the credentials that the
sandbox prints. They read their own identifiers in their tokens. Only a vehicle's EXI
request comes from the sandbox's environment file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import secrets
import threading
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from fixtures.sandbox import Running

Json = dict[str, Any]
ISO2 = "urn:iso:15118:2:2013:MsgDef"
CURVE = ec.SECP256R1()


class Party:
    """One role's client: its token, and what it may act for."""

    def __init__(self, announced: Json, role: str) -> None:
        self.http = httpx.Client(base_url=announced["url"], trust_env=False, timeout=30)
        credentials = announced["roles"][role]
        token = self.http.post(
            announced["token_url"], json={**credentials, "grant_type": "client_credentials"}
        ).json()["access_token"]
        self.http.headers["Authorization"] = f"Bearer {token}"
        middle = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        self.wmis = claims[f"{credentials['audience']}/pcid"]
        self.providers = claims[f"{credentials['audience']}/emaid"]

    def call(self, method: str, path: str, status: int = 200, **options: Any) -> httpx.Response:
        answer = self.http.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return answer


class World:
    """The parties, and the variables of the environment file."""

    def __init__(self, announced: Json, variables: dict[str, str]) -> None:
        self.said, self.variables = announced, variables
        self.maker = Party(announced, "OEM")
        self.operator = Party(announced, "MO_EXTERNAL_PKI")
        self.hosted = Party(announced, "MO_HUBJECT_PKI")
        self.stations = Party(announced, "CPO")
        self.administrator = Party(announced, "ADMIN")
        self.parties = (
            self.maker,
            self.operator,
            self.hosted,
            self.stations,
            self.administrator,
        )


class Car:
    """A vehicle with a key of its own, in PCP."""

    def __init__(self, world: World) -> None:
        wmi = world.maker.wmis[0]
        self.pcid = f"{wmi}P{secrets.randbelow(10**13):013}"
        self.key = ec.generate_private_key(CURVE)
        self.leaf = enrol(world.maker, "oem", signing_request(self.pcid, self.key))
        subs = [ca for ca in authorities(world.maker, "oem") if ca.issuer != ca.subject]
        sub2 = next(ca for ca in subs if ca.subject == self.leaf.issuer)
        sub1 = next(ca for ca in subs if ca.subject == sub2.issuer)
        roots = world.maker.call("GET", "/v1/root/rootCerts?rootType=v2g").json()
        trusted = [
            bytes.fromhex(root["rootAuthorityKeyIdentifierHex"]).hex(":")
            for root in roots["RootCertificateCollection"]["rootCertificates"]
            if root["signatureAlgorithm"] == "secp256r1"  # ISO 15118-2
        ]
        self.stored = world.maker.call(
            "PUT",
            "/v1/oem/provCerts",
            json={
                "vehicleCertificate": text(self.leaf),
                "subCA2Certificate": text(sub2),
                "subCA1Certificate": text(sub1),
                "v2gRootAuthorityKeyIdentifiers": trusted,
            },
        ).json()

    def opened(self, point: bytes, wrapped: bytes) -> int:
        """The contract's private key [ISO 15118-2: ECDH, NIST's concat KDF, AES-128-CBC]."""
        sender = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, point)
        shared = self.key.exchange(ec.ECDH(), sender)
        aes = Cipher(algorithms.AES(derived(shared)), modes.CBC(wrapped[:16])).decryptor()
        return int.from_bytes(aes.update(wrapped[16:]) + aes.finalize())


def derived(shared: bytes) -> bytes:
    return hashlib.sha256(b"\0\0\0\1" + shared + b"\x01\x55\x56").digest()[:16]


def text(certificate: x509.Certificate) -> str:
    return b64encode(certificate.public_bytes(Encoding.DER)).decode()


def name(common: str, organisation: str = "A Company") -> x509.Name:
    rows = {NameOID.COUNTRY_NAME: "DE", NameOID.ORGANIZATION_NAME: organisation}
    rows[NameOID.COMMON_NAME] = common
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in rows.items()])


def signing_request(common: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    csr = x509.CertificateSigningRequestBuilder(name(common)).sign(key, SHA256())
    return csr.public_bytes(Encoding.DER)


def enrol(party: Party, ca: str, request: bytes) -> x509.Certificate:
    answer = party.call(
        "POST",
        f"/.well-known/est/{ca}/simpleenroll/ISO15118-2",
        content=b64encode(request),
        headers={"Content-Type": "application/pkcs10"},
    )
    return pkcs7.load_der_pkcs7_certificates(b64decode(answer.content))[0]


def authorities(party: Party, ca: str) -> list[x509.Certificate]:
    answer = party.call("GET", f"/{ca}/cacerts/ISO15118-2/secp256r1/")
    return pkcs7.load_der_pkcs7_certificates(b64decode(answer.content))


class OperatorsPki:
    """Root, Sub1 and Sub2 of an operator, which the ecosystem has never seen."""

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self.root, self.root_key = issued(f"MO Root {mark}", None, None)
        self.sub1, key = issued(f"MO Sub1 {mark}", self.root, self.root_key, 1)
        self.sub2, self.key = issued(f"MO Sub2 {mark}", self.sub1, key, 0)

    def contract(self, world: World, car: Car) -> tuple[str, Json]:
        """An EMAID, and its contract data sealed to a vehicle."""
        emaid = f"{world.operator.providers[0]}C{secrets.token_hex(4).upper()}0"
        leaf, key = issued(emaid, self.sub2, self.key, None)
        message = world.operator.call("GET", f"/v1/oem/provCerts/{car.pcid}").json()["OEMMessage"]
        vehicle = x509.load_der_x509_certificate(b64decode(message["vehicleCertificate"]))
        public = vehicle.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        once = ec.generate_private_key(CURVE)
        iv = secrets.token_bytes(16)
        aes = Cipher(
            algorithms.AES(derived(once.exchange(ec.ECDH(), public))), modes.CBC(iv)
        ).encryptor()
        plain = key.private_numbers().private_value.to_bytes(32)
        point = once.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return emaid, {
            "contractCertificate": text(leaf),
            "contractSubCa2Certificate": text(self.sub2),
            "contractSubCa1Certificate": text(self.sub1),
            "contractSignatureEncryptedPrivateKey": b64encode(
                iv + aes.update(plain) + aes.finalize()
            ).decode(),
            "dHpublickey": b64encode(point).decode(),
        }


def issued(
    common: str,
    above: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey | None,
    length: int | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA where the name begins with MO, else a contract certificate."""
    key = ec.generate_private_key(CURVE)
    authority = common.startswith("MO ")
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    for bit in ("key_cert_sign", "crl_sign") if authority else ("digital_signature",):
        usage[bit] = True
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(above.subject if above else name(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=300))
        .add_extension(x509.BasicConstraints(authority, length), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((signer or key).public_key()), False
        )
        .sign(signer or key, SHA256())
    )
    return certificate, key


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, softhsm: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("openapi")
    running = Running(
        *("--port", "0", "--allow-network", "127.0.0.0/8", "--requests", str(folder)),
        PLUGVAULT_PKCS11_MODULE=str(softhsm),
    )
    environments = json.loads((folder / "http-client.env.json").read_text())
    created = World(running.said, next(iter(environments.values())))
    yield created
    for party in created.parties:
        party.http.close()
    running.end()


@pytest.fixture(scope="module")
def pki(world: World) -> OperatorsPki:
    """An operator's PKI, its root in RCP."""
    operators_pki = OperatorsPki()
    body = {"caCertificate": text(operators_pki.root), "rootType": "MO"}
    world.administrator.call("PUT", "/v1/root/rootCerts", json=body)
    return operators_pki


@pytest.fixture
def car(world: World) -> Car:
    return Car(world)


def generated(world: World, car: Car) -> str:
    """A contract that the ecosystem issues; its EMAID."""
    emaid = f"{world.hosted.providers[0]}C{secrets.token_hex(4).upper()}0"
    now = datetime.now(UTC)
    world.hosted.call(
        "PUT",
        "/v1/cps/generate/signedContractData",
        201,
        json={
            "contractBegins": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
            "contractEnds": f"{now + timedelta(days=100):%Y-%m-%dT%H:%M:%SZ}",
            "emaid": emaid,
            "pcid": car.pcid,
            "xsdMsgDefNamespace": ISO2,
        },
    )
    return emaid


def test_a_provisioning_certificate_gets_into_pcp(world: World, car: Car):
    assert car.stored["fingerprint"] == car.leaf.fingerprint(SHA256()).hex()
    stored = world.operator.call("GET", f"/v1/oem/provCerts/{car.pcid}").json()["OEMMessage"]
    assert stored["vehicleCertificate"] == text(car.leaf)
    sub2 = x509.load_der_x509_certificate(b64decode(stored["subCA2Certificate"]))
    car.leaf.verify_directly_issued_by(sub2)
    world.operator.call("GET", f"/v1/oem/provCerts/lookupVehicle/{car.pcid}")


def test_an_operator_with_its_own_pki(world: World, car: Car, pki: OperatorsPki):
    emaid, data = pki.contract(world, car)
    body = {"contractData": data, "pcid": car.pcid, "xsdMsgDefNamespace": ISO2}
    signed = world.operator.call("PUT", "/v1/cps/contractData/signed", 201, json=body).json()
    assert signed["emaid"] == emaid
    assert data["contractCertificate"] in b64decode(signed["signedData"]).decode()
    listed = world.operator.call("GET", f"/v1/ccp/lookupContract/{emaid}").json()
    (contract,) = listed["XMLContracts"]
    assert contract["contractCertificate"] == data["contractCertificate"]
    assert contract["pcid"] == car.pcid
    # The vehicle can open what the maker pulls for it.
    leaf = x509.load_der_x509_certificate(b64decode(data["contractCertificate"]))
    assert contract_key(car, pulled(world, emaid, car), leaf)


def test_an_operator_with_the_ecosystems_pki(world: World, car: Car):
    emaid = generated(world, car)
    listed = world.hosted.call("GET", f"/v1/ccp/lookupContract/{emaid}").json()
    (contract,) = listed["XMLContracts"]
    leaf = x509.load_der_x509_certificate(b64decode(contract["contractCertificate"]))
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == emaid
    assert contract_key(car, pulled(world, emaid, car), leaf)


def test_the_signer_leads_to_a_root_in_rcp(world: World):
    listed = world.operator.call("GET", "/cps/signer").json()["cpsCertificates"]
    roots = world.operator.call("GET", "/v1/root/rootCerts?rootType=v2g").json()
    by_print = {
        root["fingerprint"]: root["caCertificate"]
        for root in roots["RootCertificateCollection"]["rootCertificates"]
    }
    signer = listed[0]
    root = by_print[signer["cpsV2GRootCertificateFingerprint"]]
    names = ("cpsCertificate", "cpsSubCa2Certificate", "cpsSubCa1Certificate")
    path = [b64decode(signer[member]) for member in names] + [b64decode(root)]
    certificates = [x509.load_der_x509_certificate(encoded) for encoded in path]
    for below, above in pairwise(certificates):
        below.verify_directly_issued_by(above)


def test_a_station_gets_its_certificate(world: World):
    evseid = world.variables["station_evseid"]
    entity = {"commonName": evseid, "evseID": [evseid], "evseISOversion": "15118-2"}
    world.stations.call("PUT", "/v1/vra/cpo/endEntities", json=entity)
    key = ec.generate_private_key(CURVE)
    leaf = enrol(world.stations, "cpo", signing_request(evseid, key))
    assert leaf.public_key() == key.public_key()
    assert any(ca.subject == leaf.issuer for ca in authorities(world.stations, "cpo"))


def test_a_contract_is_installed_at_a_station(world: World):
    car = world.said["vehicles"][0]
    body = {
        "certificateInstallationReq": world.variables["installation_request"],
        "xsdMsgDefNamespace": ISO2,
    }
    answer = world.stations.call("POST", "/v1/ccp/signedContractData", json=body).json()
    (content,) = answer["CCPResponse"]["emaidContent"]
    listed = world.maker.call("GET", f"/v1/ccp/signedContractData/{car['pcid']}").json()
    (contract,) = (row for row in listed["XMLContracts"] if row["defaultContract"])
    assert content["messageDef"]["emaid"] == contract["emaid"]
    message = b64decode(content["messageDef"]["certificateInstallationRes"])
    assert shifts(message, b64decode(contract["contractCertificate"]))


def test_the_maker_chooses_the_contract_that_stations_install(world: World, car: Car):
    first, second = generated(world, car), generated(world, car)
    at = f"/v1/ccp/signedContractData/{car.pcid}"
    assert default(world, at) == first
    world.maker.call("POST", f"{at}/{second}/default")
    assert default(world, at) == second


def test_contracts_end_and_are_revoked(world: World, car: Car):
    emaid, second_emaid = generated(world, car), generated(world, car)
    at = f"/v1/ccp/signedContractData/{car.pcid}"
    contracts = world.maker.call("GET", at).json()["XMLContracts"]
    leaves = {
        row["emaid"]: x509.load_der_x509_certificate(b64decode(row["contractCertificate"]))
        for row in contracts
    }
    (issuer,) = (
        ca for ca in authorities(world.hosted, "mo") if ca.subject == leaves[emaid].issuer
    )
    assert status(leaves[emaid], issuer) == ocsp.OCSPCertStatus.GOOD
    world.hosted.call("DELETE", f"/v1/ccp/signedContractData/{emaid}")
    world.hosted.call("GET", f"/v1/ccp/lookupContract/{emaid}", 404)
    assert status(leaves[emaid], issuer) == ocsp.OCSPCertStatus.REVOKED
    # The vehicle goes, and with it what was left.
    world.maker.call("DELETE", f"/v1/oem/provCerts/{car.pcid}")
    world.operator.call("GET", f"/v1/oem/provCerts/{car.pcid}", 404)
    world.hosted.call("GET", f"/v1/ccp/lookupContract/{second_emaid}", 404)
    assert status(leaves[second_emaid], issuer) == ocsp.OCSPCertStatus.REVOKED


def test_events_reach_the_companies_they_concern(world: World, car: Car):
    deliveries: queue.Queue[tuple[str, Any, bytes]] = queue.Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            deliveries.put((self.path, self.headers, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        secret = {}
        subscriptions = {
            "maker": (world.maker, ["oem.contract.created", "oem.contract.deleted"]),
            "operator": (world.hosted, ["mo.contract.created.sent.to.oem"]),
        }
        for path, (party, kinds) in subscriptions.items():
            url = f"http://127.0.0.1:{server.server_port}/{path}"
            body = {"url": url, "enabledEvents": kinds}
            endpoint = party.call("POST", "/v1/webhook/endpoints", 201, json=body).json()
            assert endpoint["enabledEvents"] == kinds
            secret[f"/{path}"] = endpoint["secret"].encode()
        emaid = generated(world, car)
        seen: set[tuple[str, str]] = set()
        deadline = time.monotonic() + 60
        while len(seen) < 3:
            path, headers, sent = deliveries.get(timeout=max(0.1, deadline - time.monotonic()))
            right = hmac.digest(secret[path], sent, "sha256").hex()
            assert headers["payload-signature"] == right
            assert headers["X-Hubject-Signature"] == f"sha256={right}"
            event = json.loads(sent)
            if event["payload"]["emaid"] != emaid:
                continue
            assert event["payload"]["pcid"].upper() == car.pcid.upper()
            seen.add((path, event["eventType"]))
            if len(seen) == 2:  # both got the event of its creation; now it ends
                world.hosted.call("DELETE", f"/v1/ccp/signedContractData/{emaid}")
        assert seen == {
            ("/maker", "oem.contract.created"),
            ("/operator", "mo.contract.created.sent.to.oem"),
            ("/maker", "oem.contract.deleted"),
        }
    finally:
        server.shutdown()
        server.server_close()


def default(world: World, at: str) -> str:
    listed = world.maker.call("GET", at).json()["XMLContracts"]
    (emaid,) = (row["emaid"] for row in listed if row["defaultContract"])
    return str(emaid)


def status(leaf: x509.Certificate, issuer: x509.Certificate) -> ocsp.OCSPCertStatus:
    """Ask the responder named in the certificate for its status."""
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (at,) = (
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.OCSP
    )
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, SHA1()).build()
    answer = httpx.post(at, content=request.public_bytes(Encoding.DER), trust_env=False)
    return ocsp.load_der_ocsp_response(answer.content).certificate_status


def pulled(world: World, emaid: str, car: Car) -> bytes:
    """The bundle that the maker sends over the air: EXI."""
    at = f"/v1/ccp/provideSignedContractData/{emaid}/{car.pcid}"
    return b64decode(world.maker.call("GET", at).json()["certificateInstallationRes"])


# Without an EXI decoder: bytes stand in EXI as they are, but from any bit on.


def shifts(message: bytes, content: bytes) -> list[bytes]:
    """The message moved by 0 to 7 bits, where it then holds these bytes."""
    size, number = len(message) + 1, int.from_bytes(message)
    moved = [(number << bits).to_bytes(size) for bits in range(8)]
    return [candidate for candidate in moved if content in candidate]


def contract_key(car: Car, message: bytes, leaf: x509.Certificate) -> bool:
    """Whether the vehicle's key opens a sealed key in the message that fits the certificate."""
    assert shifts(message, leaf.public_bytes(Encoding.DER))
    wrapped = [
        sealed_key for shifted in shifts(message, b"0") for sealed_key in after(shifted, b"0", 48)
    ]
    points = [
        b"\4" + coordinates
        for shifted in shifts(message, b"A\4")
        for coordinates in after(shifted, b"A\4", 64)
    ]
    public = leaf.public_key()
    for point in points:
        for sealed in wrapped:
            try:
                private = ec.derive_private_key(car.opened(point, sealed), CURVE)
            except ValueError:  # no point of the curve, or no key of it
                continue
            if private.public_key() == public:
                return True
    return False


def after(message: bytes, mark: bytes, length: int) -> Iterator[bytes]:
    at = message.find(mark)
    while at >= 0:
        content = message[at + len(mark) : at + len(mark) + length]
        if len(content) == length:
            yield content
        at = message.find(mark, at + 1)
