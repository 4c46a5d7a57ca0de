"""EST: subjects, keys and paths of an enrolment; renewal of a certificate."""

from __future__ import annotations

import base64
import itertools

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from fastapi.testclient import TestClient

from evcc import chain
from fixtures.backend import refused
from fixtures.office import KEYS, URL, Office, branch, certs, forged, request
from plugvault.pki import path
from plugvault.pki.issue import der
from plugvault.pools import certificates

PCID, EVSEID = "PVTP0000000000001", "DE*PVC*E000001"
SECCID = "DE-PVC-S-00003C4D557878675645330967543476-2"
EMAID = "DEPVB0000000012"
# kind: role, common name in ISO 15118-2, in -20, DC of the leaf
KINDS = {
    "oem": ("OEM", PCID, "PVT" + "P" * 61, "OEM"),
    "cpo": ("CPO", EVSEID, SECCID, "CPO"),
    "mo": ("MO_HUBJECT_PKI", EMAID, EMAID, "MO"),
    "cps": ("CPS", "CPS 7", "CPS 7", "CPS"),
    "veh": ("OEM", None, PCID, "OEM"),
}
NEW = [(kind, "secp521r1") for kind in KINDS] + [(kind, "ed448") for kind in KINDS]
OLD = [(kind, "secp256r1") for kind in KINDS if kind != "veh"]


def common_name(leaf: x509.Certificate) -> str:
    return str(leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.mark.parametrize(("kind", "curve"), OLD + NEW)
def test_each_ca_certifies_its_kind_on_each_curve(office: Office, kind: str, curve: str):
    role, old, new, domain = KINDS[kind]
    name = old if curve == "secp256r1" else new
    assert name
    leaf = office.enroll(role, kind, name, curve)
    assert common_name(leaf) == name
    dc = leaf.subject.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)
    assert [attribute.value for attribute in dc] == [domain]
    leaf.verify_directly_issued_by(branch(kind, curve).certificate)
    assert len(der(leaf)) <= (800 if curve == "secp256r1" else 1600)
    if curve == "secp521r1":
        assert leaf.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA512
    with office.store.read() as records:
        assert certificates.is_ours(records, *path.identity(path.read_any(der(leaf))))


@pytest.mark.parametrize(("kind", "curve"), OLD + NEW)
def test_ca_certificates_lead_from_the_leaf_to_the_root(office: Office, kind: str, curve: str):
    iso = "ISO15118-2" if curve == "secp256r1" else "ISO15118-20"
    answer = office.ask(KINDS[kind][0], "GET", f"/{kind}/cacerts/{iso}/{curve}/")
    certificates = {certificate.subject: certificate for certificate in certs(answer)}
    step = branch(kind, curve).certificate
    for _ in range(3):
        assert certificates.pop(step.subject) == step
        step = certificates.get(step.issuer, step)
    assert certificates == {}


@pytest.mark.parametrize(
    ("suffix", "curve"),
    [
        ("", "secp256r1"),
        ("/ISO15118-2", "secp256r1"),
        ("/ISO15118-20", "secp521r1"),
        ("/ISO15118-20/ed448", "ed448"),
        ("/secp521r1", "secp521r1"),
        ("/secp256r1/", "secp256r1"),
    ],
)
def test_omitted_parts_of_a_cacerts_path_have_defaults(office: Office, suffix: str, curve: str):
    answer = office.ask("CPO", "GET", f"/.well-known/acme-cpo/cacerts{suffix}")
    assert branch("cpo", curve).certificate in certs(answer)


@pytest.mark.parametrize(
    ("path_", "status", "words"),
    [
        ("/cpo/cacerts/ISO15118-2/secp521r1/", 404, "No CA with secp521r1"),
        ("/cpo/cacerts/ISO15118-20/secp256r1/", 404, "No CA with secp256r1"),
        ("/cpo/cacerts/ISO15118-20/rsa/", 404, "No CA with rsa"),
        ("/cpo/cacerts/ISO15118-8", 400, "iso-version"),
        ("/nobody/cacerts", 404, "No CA named"),
    ],
)
def test_an_unknown_ca_is_refused(office: Office, path_: str, status: int, words: str):
    refused(office.ask("CPO", "GET", path_), status, words)


PREFIXES = ("/.well-known/est", "/.well-known", "")
SUFFIXES = ("", "/", "/ISO15118-2", "/ISO15118-2/")


@pytest.mark.parametrize("call", ["simpleenroll", "simplereenroll"])
def test_enrolment_answers_under_every_path_of_live_clients(office: Office, call: str):
    for prefix, ca, suffix in itertools.product(PREFIXES, ("cpo", "acme-cpo"), SUFFIXES):
        answer = office.ask(
            "CPO", "POST", f"{prefix}/{ca}/{call}{suffix}", content=request(EVSEID)
        )
        assert len(certs(answer)) == 1


def test_a_station_of_edition_2_may_have_a_seccid(office: Office):
    answer = office.ask("CPO", "POST", "/cpo/simpleenroll/ISO15118-2", content=request(SECCID))
    assert common_name(certs(answer)[0]) == SECCID


@pytest.mark.parametrize("spelling", ["2020", "2022"])
def test_the_namespace_may_name_the_edition(office: Office, spelling: str):
    query = {"xsdMsgDefNamespace": f"urn:iso:15118:20:{spelling}:MsgDef"}
    body = request(SECCID, KEYS["secp521r1"]())
    answer = office.ask("CPO", "POST", "/cpo/simpleenroll", params=query, content=body)
    assert common_name(certs(answer)[0]) == SECCID
    answer = office.ask("CPO", "POST", "/cpo/simpleenroll/ISO15118-2", params=query, content=body)
    refused(answer, 400, "xsdMsgDefNamespace : is not that of ISO15118-2")
    query = {"xsdMsgDefNamespace": "urn:iso:15118:8"}
    answer = office.ask("CPO", "POST", "/cpo/simpleenroll", params=query, content=body)
    refused(answer, 400, "xsdMsgDefNamespace : must be one of")


@pytest.mark.parametrize(("kind", "curve"), OLD + NEW)
def test_each_ca_is_for_its_role_alone(office: Office, kind: str, curve: str):
    role, old, new, _ = KINDS[kind]
    iso = "ISO15118-2" if curve == "secp256r1" else "ISO15118-20"
    body = request(old if curve == "secp256r1" else new, KEYS[curve]())
    for caller_role in ("OEM", "CPO", "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN"):
        answer = office.ask(caller_role, "POST", f"/{kind}/simpleenroll/{iso}", content=body)
        if caller_role == role:
            assert answer.status_code == 200
        else:
            refused(answer, 403, "This call is for")
    refused(office.ask(None, "POST", f"/{kind}/simpleenroll/{iso}", content=body), 401, "token")


@pytest.mark.parametrize(
    ("kind", "iso", "name", "status", "words"),
    [
        ("oem", "2", "XXXP0000000000001", 403, "WMI"),
        ("oem", "2", "PVT1", 400, "pcid : must match"),
        ("oem", "2", "PVT" + "P" * 16, 400, "pcid : must match"),
        ("oem", "20", "PVT" + "P" * 60 + "-", 400, "pcid : must match"),
        ("oem", "20", "XXX" + "P" * 61, 403, "WMI"),
        ("veh", "20", "XXXP0000000000001", 403, "WMI"),
        ("cpo", "2", "DE*XXX*E000001", 403, "operator"),
        ("cpo", "2", "DE*PVC*X000001", 400, "EVSEID : must match"),
        ("cpo", "2", "DE*PVC*E", 400, "EVSEID : must match"),
        ("cpo", "2", SECCID.replace("PVC", "XXX"), 403, "operator"),
        ("cpo", "2", SECCID + "!", 400, "EVSEID : must match"),
        ("cpo", "20", EVSEID, 400, "SECCID : must match"),
        ("cpo", "20", SECCID.replace("PVC", "XXX"), 403, "operator"),
        ("mo", "2", "DEXXX0000000012", 403, "provider"),
        ("mo", "2", "DE-PVB-000000001-2", 400, "without hyphens"),
        ("mo", "2", "DEPVB1", 400, "emaid : must match"),
        ("mo", "20", "DEXXX0000000012", 403, "provider"),
    ],
)
def test_a_name_must_be_of_the_kind_and_the_callers_own(
    office: Office, kind: str, iso: str, name: str, status: int, words: str
):
    body = request(name, KEYS["secp256r1" if iso == "2" else "secp521r1"]())
    path_ = f"/{kind}/simpleenroll/ISO15118-{iso}"
    refused(office.ask(KINDS[kind][0], "POST", path_, content=body), status, words)


@pytest.mark.parametrize("name", ["depvcE1", "DEPVCE000001", "de*pvc*E*1*2"])
def test_an_evseid_is_written_in_many_ways(office: Office, name: str):
    assert common_name(office.enroll("CPO", "cpo", name)) == name


@pytest.mark.parametrize(
    ("curve", "iso", "words"),
    [
        ("secp521r1", "2", "secp256r1"),
        ("ed448", "2", "secp256r1"),
        ("secp256r1", "20", "secp521r1 or ed448"),
    ],
)
def test_a_key_of_the_other_edition_is_refused(office: Office, curve: str, iso: str, words: str):
    body = request(PCID, KEYS[curve]())
    answer = office.ask("OEM", "POST", f"/oem/simpleenroll/ISO15118-{iso}", content=body)
    refused(answer, 400, words)


def test_nothing_is_issued_by_a_revoked_ca(office: Office):
    sub2 = path.identity(path.read(der(branch("oem", "secp256r1").certificate)))
    with office.store.write() as records:
        certificates.record(records, der(branch("oem", "secp256r1").certificate))
        certificates.revoke(records, *sub2, "keyCompromise", office.now)
    answer = office.ask("OEM", "POST", "/oem/simpleenroll", content=request(PCID))
    refused(answer, 503, "CA has been revoked")


def test_an_answer_validates_as_a_path(office: Office):
    leaf = der(office.enroll("OEM", "oem", PCID))
    sub2 = branch("oem", "secp256r1")
    assert path.validate(leaf, sub2.path, [sub2.root], chain.PROVISIONING, office.now)


# Renewal


class Holder:
    """A client with a TLS connection under this certificate."""

    def __init__(self, office: Office, certificate: x509.Certificate) -> None:
        self.office = office
        self.pem = certificate.public_bytes(Encoding.PEM).decode()

    def post(self, path_: str, body: bytes) -> httpx.Response:
        async def app(scope, receive, send):
            scope["extensions"] = {"tls": {"client_cert_chain": [self.pem]}}
            await self.office.app(scope, receive, send)

        http = TestClient(app, base_url=URL, raise_server_exceptions=False)
        return http.post(path_, content=body)

    def renew(self, body: bytes, iso: str = "ISO15118-2") -> httpx.Response:
        return self.post(f"/.well-known/cpo/simplereenroll/{iso}", body)


@pytest.mark.parametrize(("curve", "name"), [("secp256r1", EVSEID), ("secp521r1", SECCID)])
def test_a_holder_gets_the_same_subject_for_a_new_key(office: Office, curve: str, name: str):
    leaf, key = office.enroll("CPO", "cpo", name, curve), KEYS[curve]()
    iso = "ISO15118-2" if curve == "secp256r1" else "ISO15118-20"
    (new,) = certs(Holder(office, leaf).renew(request(name, key), iso=iso))
    assert (new.subject, new.public_key()) == (leaf.subject, key.public_key())


@pytest.mark.parametrize(
    "changes",
    [{"cn": "DE*PVC*E000002"}, {"organisation": "Other"}, {"country": "FR"}, {"country": None}],
)
def test_a_holder_gets_no_other_subject(office: Office, changes: dict[str, str]):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    refused(Holder(office, leaf).renew(request(**{"cn": EVSEID, **changes})), 403, "subject")


def test_a_revoked_certificate_renews_nothing(office: Office):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    with office.store.write() as records:
        identity = path.identity(path.read(der(leaf)))
        certificates.revoke(records, *identity, "keyCompromise", office.now)
    refused(Holder(office, leaf).renew(request(EVSEID)), 403, "revoked")


@pytest.mark.parametrize("days", [-2, 91])
def test_a_certificate_out_of_its_time_renews_nothing(office: Office, days: int):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    office.now += days * 86_400
    refused(Holder(office, leaf).renew(request(EVSEID)), 403, "not valid now")


def test_a_certificate_of_another_ca_renews_nothing(office: Office):
    leaf = office.enroll("CPS", "cps", EVSEID)
    refused(Holder(office, leaf).renew(request(EVSEID)), 403, "not issued by this CA")


def test_the_servers_certificate_does_not_become_a_stations(office: Office):
    """The same CA issues both, so that clients need one root."""
    server = office.issue("cpo", "server", EVSEID)
    with office.store.write() as records:
        certificates.record(records, server)
    holder = Holder(office, x509.load_der_x509_certificate(server))
    refused(holder.renew(request(EVSEID)), 403, "not issued by this CA")


def test_a_certificate_that_is_not_in_the_register_renews_nothing(office: Office):
    unregistered = x509.load_der_x509_certificate(office.issue("cpo", "cpo", EVSEID))
    refused(Holder(office, unregistered).renew(request(EVSEID)), 403, "not issued by this CA")


def test_a_forged_certificate_renews_nothing(office: Office):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    forgery = forged(leaf)
    refused(Holder(office, forgery).renew(request(EVSEID)), 403, "not issued by this CA")


def test_renewal_proves_the_new_key(office: Office):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    der_ = bytearray(base64.b64decode(request(EVSEID)))
    der_[-1] ^= 1
    answer = Holder(office, leaf).renew(base64.b64encode(der_))
    refused(answer, 400, "not signed by its own key")


def test_renewal_without_certificate_and_token_is_refused(office: Office):
    answer = office.ask(None, "POST", "/cpo/simplereenroll", content=request(EVSEID))
    refused(answer, 401, "bearer token")


def test_enrolment_takes_no_certificate_for_a_token(office: Office):
    leaf = office.enroll("CPO", "cpo", EVSEID)
    answer = Holder(office, leaf).post("/cpo/simpleenroll", request(EVSEID))
    refused(answer, 401, "bearer token")


def test_a_station_must_be_announced_where_that_is_asked(strict_office: Office):
    answer = strict_office.ask("CPO", "POST", "/cpo/simpleenroll", content=request(EVSEID))
    refused(answer, 403, "announced first")


def test_a_certificate_that_cannot_be_recorded_is_not_handed_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_):
        raise RuntimeError

    monkeypatch.setattr(certificates, "record", fails)
    answer = office.ask("OEM", "POST", "/oem/simpleenroll", content=request(PCID))
    refused(answer, 500, "Internal")
