"""HTTPS with a real server: client certificates and the calls they permit."""

from __future__ import annotations

import ssl
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fixtures.backend import refused
from fixtures.office import KEYS, Office, branch, certs, names, request
from plugvault.opcp import tls
from plugvault.pki.issue import Authority, der, issue, root, subordinate
from plugvault.pki.schemes import PrivateKey
from plugvault.store import SqlStore
from world import DAY, NOW

EVSEID = "DE*PVC*E000001"
SECCID = "DE-PVC-S-0001-2"
HOSTS = ("127.0.0.1", "localhost")


class Door:
    """The office behind HTTPS, by the real clock: TLS knows no other."""

    def __init__(self, store: SqlStore, folder: Path) -> None:
        self.folder = folder
        self.office = Office(store)
        self.office.now = time.time()
        self.issuer = today("v2g", "secp256r1")
        self.stations = {
            "cpo": today("v2g", "secp256r1"),
            "cpo/secp521r1": today("v2g", "secp521r1"),
        }
        self.office.services.enrolment.update(self.stations)  # type: ignore[attr-defined]
        tls.prepare(folder, self.issuer, self.stations.values(), HOSTS, self.office.now)
        config = uvicorn.Config(
            self.office.app, "127.0.0.1", 0, loop="uvloop", log_config=None, lifespan="off",
            **tls.options(folder),
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> Door:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"https://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join()

    def client(self, leaf: x509.Certificate | None = None, key: PrivateKey | None = None):
        trust = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(self.issuer.root))
        if leaf and key:
            plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            file = self.folder / "client.pem"
            file.write_bytes(plain + leaf.public_bytes(Encoding.PEM))
            trust.load_cert_chain(file)
        return httpx.Client(base_url=self.url, verify=trust, trust_env=False)

    def enroll(self, curve: str, name: str) -> tuple[x509.Certificate, PrivateKey]:
        key = KEYS[curve]()
        iso = "ISO15118-2" if curve == "secp256r1" else "ISO15118-20"
        path_ = f"/cpo/simpleenroll/{iso}"
        (leaf,) = certs(self.office.ask("CPO", "POST", path_, content=request(name, key)))
        return leaf, key


def today(kind: str, curve: str) -> Authority:
    now = time.time()
    above = root(kind, names("Root"), KEYS[curve](), now)
    for level in ("sub1", "sub2"):
        above = subordinate(f"{kind}-{level}", names(level), KEYS[curve](), above, now)
    return above


@pytest.fixture
def door(sqlite_store: SqlStore, tmp_path: Path) -> Iterator[Door]:
    with Door(sqlite_store, tmp_path / "tls") as opened:
        yield opened


@pytest.mark.parametrize(
    ("curve", "name", "suffix"),
    [("secp256r1", EVSEID, ""), ("secp521r1", SECCID, "/ISO15118-20")],
)
def test_a_station_renews_with_the_certificate_it_has(
    door: Door, curve: str, name: str, suffix: str
):
    leaf, key = door.enroll(curve, name)
    path_ = f"/.well-known/cpo/simplereenroll{suffix}"
    with door.client(leaf, key) as client:
        new_key = KEYS[curve]()
        for _ in range(2):  # on one connection
            (new,) = certs(client.post(path_, content=request(name, new_key)))
            assert (new.subject, new.public_key()) == (leaf.subject, new_key.public_key())
        wrong_subject = client.post(path_, content=request(name + "1", new_key))
        refused(wrong_subject, 403, "subject")


def test_without_a_certificate_everything_else_works(door: Door):
    with door.client() as client:
        assert client.get("/crl").status_code == 200
        answer = client.post("/cpo/simplereenroll", content=request(EVSEID))
        refused(answer, 401, "bearer token")
        token = {"Authorization": f"Bearer {door.office.bearer('CPO')}"}
        body = request(EVSEID)
        assert certs(client.post("/cpo/simplereenroll", content=body, headers=token))


def test_a_certificate_of_a_foreign_ca_gets_no_connection(door: Door):
    key = KEYS["secp256r1"]()
    now = time.time()
    certificate = issue("cpo", names(EVSEID), key.public_key(), today("v2g", "secp256r1"), now)
    leaf = x509.load_der_x509_certificate(certificate)
    with door.client(leaf, key) as client, pytest.raises((httpx.HTTPError, ssl.SSLError)):
        client.get("/crl")


def test_the_certificate_alone_is_no_proof(door: Door):
    leaf, _ = door.enroll("secp256r1", EVSEID)
    with pytest.raises(ssl.SSLError):
        door.client(leaf, KEYS["secp256r1"]())


def test_the_key_is_its_owners_alone_and_kept_while_it_holds(tmp_path: Path):
    issuer = branch("cpo")
    encoded = tls.prepare(tmp_path / "tls", issuer, [issuer], HOSTS, NOW)
    assert encoded
    file = tmp_path / "tls" / "server.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    certificate = x509.load_der_x509_certificate(encoded)
    assert certificate.not_valid_after_utc <= datetime.fromtimestamp(NOW + 90 * DAY, UTC)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    before = file.read_bytes()
    assert tls.prepare(tmp_path / "tls", issuer, [issuer], HOSTS, NOW + DAY) is None
    assert file.read_bytes() == before
    later = NOW + 90 * DAY - tls.RENEWAL
    for hosts, now in ((("pool.example",), NOW), (("pool.example",), later)):
        again = tls.prepare(tmp_path / "tls", issuer, [issuer], hosts, now)
        assert again
        assert again != encoded
    renewed = x509.load_der_x509_certificate(again)
    names_ = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names_.get_values_for_type(x509.DNSName) == ["pool.example"]
    assert der(renewed) == again
