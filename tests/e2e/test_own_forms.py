"""This software reads the forms that it writes itself, so that two ecosystems of this software
understand each other. A mistake in either half would go unnoticed: it refuses nothing.
"""

from __future__ import annotations

import base64
import hashlib
from itertools import pairwise

import pytest

from evcc import x509
from evcc.check_digit import emaid_check_digit
from evcc.iso15118_2 import messages
from fixtures.backend import Backend, b64
from fixtures.office import BRANCHES, KEYS, branch, levels
from plugvault import foreign_revocation as learn
from plugvault.foreign_revocation import ForeignRevocation
from plugvault.net import Outbound
from plugvault.pki import names, ocsp, path, responder
from plugvault.pki.issue import der, root
from plugvault.pki.responder import CertificateStatus, RevocationEntry
from plugvault.pki.schemes import public_bits
from plugvault.pools import certificates as statuses
from plugvault.pools import installation, pcp, rcp
from plugvault.pools.caller import read_emaid, read_pcid
from plugvault.roles.revocation import Responders
from plugvault.store import SqlStore
from world import NOW

LOOPBACK = ("127.0.0.0/8",)
REVOKE = "/opnc/v1/pki/pki/revokeCertificate"


class Neighbour:
    """An ecosystem with the partner's roots in its RCP, which asks the partner's responder."""

    def __init__(self, partner: Backend, store: SqlStore) -> None:
        self.partner, self.store = partner, store
        theirs = partner.ecosystem
        with store.write() as records:
            for kind, der in (("V2G", theirs.v2g_root), ("OEM", theirs.oem_root),
                              ("MO", theirs.mo_root)):  # fmt: skip
                rcp.put(records, der, kind, partner.clock())

        def now() -> float:
            return partner.clock() + self.ahead

        outbound = Outbound(LOOPBACK, learn.TIMEOUT)
        self.refresh = ForeignRevocation(store, (), outbound, now, now)
        self.ahead = 0.0

    def knows(self, certificate: bytes) -> str | None:
        """Return the reason of its revocation in the pools here, or None."""
        with self.store.read() as records:
            row = records.statuses.get(*path.identity(path.read(certificate)))
        return row.reason if row else None


@pytest.fixture
def neighbour(backend: Backend, sqlite_store: SqlStore) -> Neighbour:
    return Neighbour(backend, sqlite_store)


def paths(partner: Backend) -> dict[str, list[bytes]]:
    """A path of each kind that the partner's CAs have issued, leaf first, without the root."""
    vehicle = partner.vehicle()
    data = partner.contract_data(vehicle)
    own = [data[f"contract{name}Certificate"] for name in ("", "SubCa2", "SubCa1")]
    emaid = partner.ecosystem.mo_v2g.contract(vehicle.pcid)
    with partner.ecosystem.store.read() as records:
        contract = records.contracts.get(emaid, "urn:iso:15118:2:2013:MsgDef")
    assert contract
    cps, station = partner.ecosystem.cps, partner.ecosystem.station
    return {
        "vehicle": [vehicle.leaf, *vehicle.subs],
        "contract of an operator's own": [base64.b64decode(encoded) for encoded in own],
        "contract of the ecosystem's": [contract.certificate, *contract.subs[:2]],
        "provisioning service": [cps.certificate, *cps.subs],
        "station": [station.certificate, *station.subs],
    }


def test_a_maker_learns_the_same_revocation(backend: Backend) -> None:
    vehicle = backend.vehicle()
    chain = [vehicle.leaf, *vehicle.subs, backend.ecosystem.oem_root]
    asks = Responders(LOOPBACK, backend.clock)
    assert not asks(chain)
    body = {"certificate": b64(vehicle.leaf), "revocationReason": "superseded"}
    assert backend.ask("OEM", "POST", REVOKE, json=body).status_code == 200
    backend.clock.ahead += 1
    assert asks(chain)


# Each form by itself: certificates of every kind and curve that our CAs make.


@pytest.mark.parametrize("curve", KEYS)
@pytest.mark.parametrize("kind", BRANCHES)
def test_a_ca_of_ours_is_named_by_its_key_in_the_certificates_it_issues(
    kind: str, curve: str
) -> None:
    top, sub1, sub2 = levels(kind, curve)
    for ca in (top, sub1, sub2):
        read = path.read_any(der(ca.certificate))
        assert path.has_key_digest(read)
        assert read.ski == ca.identifier == by_method_2(public_bits(ca.key.public_key()))
    for above, below in pairwise((top, sub1, sub2)):
        issuer, _ = path.identity(path.read_any(der(below.certificate)))
        assert issuer == above.identifier.hex()


def by_method_2(bits: bytes) -> bytes:
    """RFC 5280, 4.2.1.2: four bits 0100, and the last 60 bits of the SHA-1."""
    last = int.from_bytes(hashlib.sha1(bits, usedforsecurity=False).digest(), "big") % (1 << 60)
    return (0b0100 << 60 | last).to_bytes(8, "big")


SAID: list[tuple[str, CertificateStatus]] = [
    ("good", "good"),
    ("unknown", "unknown"),
    *(
        (reason, RevocationEntry(0, int(NOW) - 60, reason))
        for reason in statuses.REASONS
    ),
]  # fmt: skip


@pytest.mark.parametrize("curve", KEYS)
@pytest.mark.parametrize(("words", "certificate_status"), SAID, ids=[words for words, _ in SAID])
def test_our_ocsp_requests_and_answers_are_read(
    curve: str, words: str, certificate_status: CertificateStatus
) -> None:
    above = levels("oem", curve)[1]
    asked_of, issuer = der(branch("oem", curve).certificate), der(above.certificate)
    request = responder.read(ocsp.request(asked_of, issuer))
    assert responder.by_issuer_hash([above])[request.issuer] is above
    assert request.serial == path.read_any(asked_of).serial
    if isinstance(certificate_status, RevocationEntry):
        certificate_status = RevocationEntry(
            request.serial, certificate_status.at, certificate_status.reason
        )
    answer = ocsp.read(
        responder.answer(above, request, certificate_status, NOW, NOW + 60), asked_of, issuer, NOW
    )
    if isinstance(certificate_status, RevocationEntry):
        assert (answer.status, answer.revoked, answer.reason) == (
            "revoked",
            certificate_status.at,
            words,
        )
    else:
        assert (answer.status, answer.revoked) == (words, None)
    assert answer.until == NOW + 60


NAMES = (
    "Plain",
    "Cars, Inc.",
    "Cars + Vans",
    "Cars=Vans; <all>",
    'The "best" \\ cars',
    "#1",
    " before and after ",
    "Müller Straße, 東京",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_root_is_known_by_the_name_that_a_vehicle_writes(
    sqlite_store: SqlStore, name: str
) -> None:
    authority = root("v2g", {"C": "DE", "O": name, "CN": name}, KEYS["secp256r1"](), NOW)
    with sqlite_store.write() as records:
        rcp.put(records, authority.root, "V2G", NOW)
        body = messages.certificate_installation_req("id1", b"leaf", [x509.parse(authority.root)])
        listed = [
            (entry["X509IssuerName"], entry["X509SerialNumber"])
            for entry in body["ListOfRootCertificateIDs"]["RootCertificateID"]
        ]
        assert installation.is_listed(records, path.fingerprint(authority.root), listed)
        nearly = [(text.replace("DC=V2G", "DC=MO"), serial) for text, serial in listed]
        assert not installation.is_listed(records, path.fingerprint(authority.root), nearly)


def test_our_identifiers_are_read_as_they_were_written(backend: Backend) -> None:
    for _ in range(20):
        emaid = backend.ecosystem.mo.new_emaid()
        assert read_emaid(emaid) == emaid
        assert emaid[14] == emaid_check_digit(emaid[:14])
    vehicle = backend.vehicle()
    assert read_pcid(vehicle.pcid) == vehicle.pcid
    assert path.read(vehicle.leaf).names["CN"] == vehicle.pcid


def test_a_partner_is_understood_about_the_roots_in_a_vehicle(
    neighbour: Neighbour, backend: Backend
) -> None:
    """In the form in which PCP gives key identifiers, they are those of the roots in RCP."""
    vehicle = backend.vehicle()
    root_identifier = path.read(backend.ecosystem.v2g_root).ski
    body = backend.registration(vehicle)
    body["v2gRootAuthorityKeyIdentifiers"] = [names.colons(root_identifier)]
    assert backend.ask("OEM", "PUT", "/v1/oem/provCerts", json=body).status_code == 200
    answer = backend.ask("MO_EXTERNAL_PKI", "GET", f"/v1/oem/provCerts/{vehicle.pcid}").json()
    identifiers = answer["OEMMessage"]["v2gRootAuthorityKeyIdentifiers"]
    with neighbour.store.write() as records:
        copy = pcp.adopt(
            records, "irdeto", vehicle.leaf, *vehicle.subs, backend.clock(), identifiers
        )
        (stored_root,) = records.roots.all("V2G")
        assert copy.v2g_roots == rcp.key_identifier(stored_root)


# The last: after it the partner's CAs issue nothing any more.


def test_revocations_of_a_partner_with_this_software_are_learnt(
    neighbour: Neighbour, backend: Backend
) -> None:
    """Each certificate of each path, its sub-CAs too: by the address in it, over HTTP."""
    chains = paths(backend)
    for chain in chains.values():
        neighbour.refresh(chain)
    certificates = {certificate for chain in chains.values() for certificate in chain}
    assert not [certificate for certificate in certificates if neighbour.knows(certificate)]
    with backend.ecosystem.store.write() as records:
        for certificate in certificates:
            issuer, serial = path.identity(path.read(certificate))
            statuses.revoke(records, issuer, serial, "keyCompromise", backend.clock())
    neighbour.ahead = learn.RECHECK + 1
    for chain in chains.values():
        neighbour.refresh(chain)
    for name, chain in chains.items():
        for at, certificate in enumerate(chain):
            assert neighbour.knows(certificate) == "keyCompromise", f"{name}, {at}"
