"""A partner ecosystem that lies: an active one, with a good access token, and bad intentions."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import exi, x509
from fixtures.backend import b64
from fixtures.pools import Pools, authority
from plugvault.contract.iso15118_2 import response
from plugvault.contract.iso15118_2.bundle import bundle
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.federation import peers as asked_by
from plugvault.federation.clients import Link
from plugvault.federation.peers import Federation
from plugvault.pki.names import distinguished_name
from plugvault.pools import pcp, peers
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.errors import PoolError
from plugvault.roles import connections
from plugvault.roles.client import Credentials, OpcpClient, OpcpError
from world import EMAID, PCID, Issued, World, point, root

OTHER = "PVTP9990000000001"
Answers = dict[str, Any]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Partner:
    """Its answers, by method and path; 404 for the rest. `asked`: all requests to it."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    def vehicle(self, pcid: str, leaf: Issued) -> None:
        _, sub2, sub1 = leaf.chain
        message = {
            "vehicleCertificate": b64(leaf.der),
            "subCA2Certificate": b64(sub2),
            "subCA1Certificate": b64(sub1),
        }
        self.answers[f"GET /v1/oem/provCerts/{pcid}"] = {"OEMMessage": message}

    def roots(self, *roots: tuple[str, bytes]) -> None:
        listed = [{"rootType": kind, "caCertificate": b64(der)} for kind, der in roots]
        self.answers["GET /v1/root/rootCerts"] = {
            "RootCertificateCollection": {"rootCertificates": listed}
        }


@contextmanager
def serve(partner: Partner) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            call = f"{self.command} {self.path}"
            partner.asked.append((call, dict(self.headers)))
            token = {"access_token": "x", "expires_in": 3600}
            reply = token if self.path == "/oauth/token" else partner.answers.get(call)
            if callable(reply):
                reply(self)
                return
            body = reply if isinstance(reply, bytes) else json.dumps(reply or {}).encode()
            self.send_response(200 if reply is not None else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def partner() -> Partner:
    return Partner()


@pytest.fixture
def federation(pools: Pools, partner: Partner) -> Iterator[Federation]:
    with serve(partner) as url:
        with pools.store.write() as records:
            peers.apply(records, "irdeto", url, "c", "test", pools.now)
            peers.move(records, "irdeto", peers.AUDITED, "test", pools.now)
            peers.move(records, "irdeto", peers.ACTIVE, "test", pools.now)
        opened = Federation(pools.store, {"irdeto": Link("c", "s", url)}, lambda: pools.now)
        yield opened
        opened.close()


def known(pools: Pools, pcid: str) -> str | None:
    """Return the origin of the vehicle, None for an unknown one."""
    with pools.store.read() as records:
        vehicle = records.vehicles.get(pcid, "urn:iso:15118:2:2013:MsgDef")
    return vehicle.origin if vehicle else None


def test_a_partner_that_tells_the_truth_is_believed(
    pools: Pools, federation: Federation, partner: Partner
):
    partner.vehicle(OTHER, pools.provisioning(OTHER))
    federation.refresh_vehicle(OTHER)
    assert known(pools, OTHER) == "irdeto"
    call, headers = partner.asked[-1]
    assert call == f"GET /v1/oem/provCerts/{OTHER}"
    assert headers["broadcast"] == "true"


def test_rejects_another_vehicle_than_the_one_asked_for(
    pools: Pools, federation: Federation, partner: Partner
):
    partner.vehicle(OTHER, pools.provisioning(PCID))
    federation.refresh_vehicle(OTHER)
    assert known(pools, OTHER) is None
    assert known(pools, PCID) is None


def test_rejects_a_vehicle_under_a_root_that_no_partner_lists(
    pools: Pools, federation: Federation, partner: Partner
):
    foreign = World()
    partner.vehicle(OTHER, foreign.provisioning(point(pools.ecu), OTHER))
    partner.roots()
    federation.refresh_vehicle(OTHER)
    assert known(pools, OTHER) is None
    assert partner.asked[-1][0] == "GET /v1/root/rootCerts"  # it was looked for, and not found


def test_a_partner_cannot_replace_a_vehicle_of_ours(
    pools: Pools, federation: Federation, partner: Partner
):
    ours = pools.register()
    partner.vehicle(PCID, pools.provisioning(PCID, key=new_key()))
    federation.refresh_vehicle(PCID)
    assert known(pools, PCID) == ""
    assert pools.provisioning_der() == ours.certificate
    assert partner.asked == []


def test_rejects_a_partners_root_that_is_not_one(
    pools: Pools, federation: Federation, partner: Partner
):
    foreign = World()
    partner.roots(("V2G", foreign.cps_sub1.der), ("V2G", b"\x30\x00"), ("XXX", b"\x00"))
    assert federation.fetch_roots() is False
    with pools.store.read() as records:
        assert all(root.origin == "" for root in records.roots.all())


@pytest.mark.parametrize("dual_control", [False, True])
def test_a_partners_root_needs_an_administrator_where_a_root_takes_two(
    pools: Pools, federation: Federation, partner: Partner, dual_control: bool
):
    federation._dual_control = dual_control
    partner.roots(("V2G", World().v2g_root.der))
    assert federation.fetch_roots() is not dual_control
    with pools.store.read() as records:
        assert [root.origin for root in records.roots.all() if root.origin] == (
            [] if dual_control else ["irdeto"]
        )
        assert [change.state for change in records.changes.all()] == ["pending"] * dual_control


def install_answer(
    pools: Pools, change: Callable[[dict[str, Any]], None], before: bool = False
) -> dict[str, Any]:
    """`change`: of the body, after it was signed, or `before` that."""
    world = pools.world
    data = issue_contract(
        "DEPVTC12345678", pools.provisioning().der, authority(world.mo_sub2), pools.now
    )
    signer = pools.signer
    message = bundle(data, signer.certificate, signer.subs, signer.sign)
    body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    change(body)
    if before:
        changed = replace(data, dh_point=body["DHpublickey"]["value"])
        message = bundle(changed, signer.certificate, signer.subs, signer.sign)
    definition = {"certificateInstallationRes": b64(exi.encode(message)), "emaid": data.emaid}
    return {"CCPResponse": {"emaidContent": [{"messageDef": definition}]}}


def listed(pools: Pools) -> list[tuple[str, int]]:
    """The V2G root of the test world, as a vehicle's request lists it."""
    root = x509.parse(pools.world.v2g_root.der)
    return [(distinguished_name(root.names), root.serial)]


def test_a_partners_bundle_under_a_root_that_the_vehicle_lacks_is_no_answer(
    pools: Pools, federation: Federation, partner: Partner
):
    partner.answers["POST /v1/ccp/signedContractData"] = install_answer(pools, lambda body: None)
    assert federation.install(b"request", [("CN=Another Root", 1)]) is None


def test_a_partners_bundle_is_given_out_only_with_a_good_signature(
    pools: Pools, federation: Federation, partner: Partner
):
    call = "POST /v1/ccp/signedContractData"
    partner.answers[call] = install_answer(pools, lambda body: None)
    installed = federation.install(b"request", listed(pools))
    assert installed is not None
    assert installed.emaid == "DEPVTC12345678"

    def swap(body: dict[str, Any]) -> None:
        body["DHpublickey"]["value"] = point(new_key())

    partner.answers[call] = install_answer(pools, swap)
    assert federation.install(b"request", listed(pools)) is None


def test_a_partners_bundle_with_our_customers_dh_point_is_no_answer(
    pools: Pools, federation: Federation, partner: Partner
):
    pools.register()
    ours = response.read(exi.decode(pools.put().message)).contract

    def swap(body: dict[str, Any]) -> None:
        body["DHpublickey"]["value"] = ours.dh_point

    call = "POST /v1/ccp/signedContractData"
    partner.answers[call] = install_answer(pools, swap, before=True)
    assert federation.install(b"request", listed(pools)) is None
    theirs = partner.answers[call] = install_answer(pools, lambda body: None)
    for _ in range(2):
        assert federation.install(b"request", listed(pools)) is not None
    message = theirs["CCPResponse"]["emaidContent"][0]["messageDef"]["certificateInstallationRes"]
    data = response.read(exi.decode(base64.b64decode(message))).contract
    rivals = replace(pools.data(), dh_point=data.dh_point)
    with pytest.raises(PoolError, match="dHpublickey") as caught:
        pools.sign(rivals)
    assert caught.value.reason == "conflict"


def test_a_partner_cannot_put_a_contract_of_its_own_in_anothers_place(
    pools: Pools, federation: Federation, partner: Partner
):
    """Its root is in RCP; the EMAID and the vehicle belong to a customer of ours."""
    pools.register()
    stored = pools.put()
    own = root("Evil MO", dc="MO")
    partner.roots(("MO", own.der))
    assert federation.fetch_roots()
    data = pools.data(mo=own.sub("S1", 1, dc="MO").sub("S2", dc="MO"))
    evil = Caller("irdeto", frozenset({PEER}))
    with pytest.raises(PoolError, match="stores its contracts itself") as caught:
        pools.sign(data=data, caller=evil)
    assert caught.value.reason == "forbidden"
    assert pools.contract() == stored
    assert pools.sign(data=data, caller=evil, pcid=None)  # which its own operators may need


@pytest.mark.parametrize(
    "reply",
    [b"not json", b"[]", b'{"CCPResponse": {"emaidContent": []}}', b'{"CCPResponse": 5}', b"\xff"],
)
def test_a_malformed_body_is_no_answer(
    pools: Pools, federation: Federation, partner: Partner, reply: bytes
):
    partner.answers["POST /v1/ccp/signedContractData"] = reply
    partner.answers[f"GET /v1/oem/provCerts/{OTHER}"] = reply
    partner.answers["GET /v1/root/rootCerts"] = reply
    assert federation.install(b"request", listed(pools)) is None
    federation.refresh_vehicle(OTHER)
    assert federation.fetch_roots() is False


def test_a_partner_that_is_not_active_is_not_asked(
    pools: Pools, federation: Federation, partner: Partner
):
    with pools.store.write() as records:
        peers.move(records, "irdeto", peers.SUSPENDED, "test", pools.now)
    partner.vehicle(OTHER, pools.provisioning(OTHER))
    federation.refresh_vehicle(OTHER)
    assert federation.install(b"request", listed(pools)) is None
    assert known(pools, OTHER) is None
    assert partner.asked == []


def endless(handler: BaseHTTPRequestHandler) -> None:
    """More and more of a body, as fast as it is read."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" " * 65_536)


def packed(handler: BaseHTTPRequestHandler) -> None:
    """Few bytes that are many when unpacked."""
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(b" " * 2**20) + packer.flush()
    handler.send_response(200)
    handler.send_header("content-encoding", "gzip")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(body)


def drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte shortly before each read times out, for half a minute."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(300):
            handler.wfile.write(b" ")
            time.sleep(0.1)


@pytest.mark.parametrize("way", [endless, packed, drop_by_drop])
def test_a_body_without_end_is_no_answer(partner: Partner, way: Any):
    partner.answers["GET /v1/root/rootCerts"] = way
    with serve(partner) as url, OpcpClient(url, Credentials("c", "s", url)) as link:
        with pytest.raises(OpcpError) as caught:
            link.request("GET", "/v1/root/rootCerts", timeout=0.5)
        assert caught.value.reason == "answer"


def test_a_silent_partner_delays_a_call_only_briefly(
    monkeypatch: pytest.MonkeyPatch, federation: Federation
):
    """The head of its answer comes byte by byte, so that no single wait is long."""
    monkeypatch.setattr(asked_by, "ANSWER_TIMEOUT", 0.3)
    stop = threading.Event()
    ended = threading.Event()

    def silent(*_: object) -> None:
        stop.wait(20)
        ended.set()

    monkeypatch.setattr(federation, "_copy", silent)
    federation.refresh_vehicle(OTHER)
    assert not ended.is_set()
    stop.set()


def test_the_emaid_of_a_partners_bundle_is_the_one_that_was_signed(
    pools: Pools, federation: Federation, partner: Partner
):
    message = exi.encode(pools.sign(pcid=None))
    message_def: dict[str, Any] = {
        "certificateInstallationRes": b64(message),
        "emaid": "DEXXX0000000000",
        "cpsV2GRootCertificateFingerprint": "0" * 64,
    }
    content = {"CCPResponse": {"emaidContent": [{"messageDef": message_def}]}}
    partner.answers["POST /v1/ccp/signedContractData"] = content
    installed = federation.install(b"", listed(pools))
    assert installed
    assert (installed.emaid, installed.root_fingerprint) == (EMAID, pools.signer.root_fingerprint)
    message_def["metaData"] = {"not": "text"}
    assert federation.install(b"", listed(pools)) is None


@pytest.mark.parametrize("needs_approval", [False, True], ids=["taken at once", "asked for"])
def test_a_partner_cannot_fill_the_root_pool(
    monkeypatch: pytest.MonkeyPatch,
    pools: Pools,
    partner: Partner,
    needs_approval: bool,
    caplog: pytest.LogCaptureFixture,
):
    """The partner lists new roots at each fetch, and at last more at once than it may have."""
    monkeypatch.setattr(peers, "MOST", 3)
    monkeypatch.setattr(asked_by, "PAUSE", 0.0)
    with serve(partner) as url:
        with pools.store.write() as records:
            peers.apply(records, "irdeto", url, "c", "test", pools.now)
            peers.move(records, "irdeto", peers.AUDITED, "test", pools.now)
            peers.move(records, "irdeto", peers.ACTIVE, "test", pools.now)
        links = {"irdeto": Link("c", "s", url)}
        with closing(
            Federation(pools.store, links, lambda: pools.now, needs_approval)
        ) as federation:
            for _ in range(3):
                partner.roots(*(("V2G", root("Another").der) for _ in range(2)))
                federation.fetch_roots()
            assert "more roots" not in caplog.text
            partner.roots(*(("V2G", root("Another").der) for _ in range(4)))
            federation.fetch_roots()
            assert "more roots than it may: the first 3 of 4 are taken" in caplog.text
    with pools.store.read() as records:
        rows = records.changes.all() if needs_approval else records.roots.all()
        assert sum(getattr(row, "origin", "irdeto") == "irdeto" for row in rows) == 3


def test_a_body_of_too_many_bytes_is_no_answer(monkeypatch: pytest.MonkeyPatch, partner: Partner):
    """However fast they come."""
    partner.answers["GET /"] = b" " * 1001
    partner.answers["GET /some"] = b" " * 1000
    monkeypatch.setattr(connections, "LIMIT", 1000)
    with serve(partner) as url, OpcpClient(url, Credentials("c", "s", url)) as link:
        assert link.request("GET", "/some").content == b" " * 1000
        with pytest.raises(OpcpError, match="without end"):
            link.request("GET", "/")


def test_a_copy_that_comes_late_does_not_replace_a_vehicle_of_ours(pools: Pools):
    """Its maker stored it while the partner was asked."""
    ours = pools.register()
    copy = pools.provisioning(key=new_key())
    _, sub2, sub1 = copy.chain
    with pools.store.write() as records:
        assert pcp.adopt(records, "irdeto", copy.der, sub2, sub1, pools.now) == ours
    assert pools.provisioning_der() == ours.certificate
