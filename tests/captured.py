"""Captures for tests: TLS 1.2 as ISO 15118-2 wants it, over memory, recorded by `Capture`."""

import contextlib
import itertools
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evcc import exi, signature
from evcc import x509 as parsed
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from plugvault.capture import Capture
from plugvault.station import Offer
from plugvault.station.iso15118_2.secc import Secc
from world import EMAID, World, point, sign

CAR, STATION = ("fe80::2%car0", 51000, 0, 7), ("fe80::1%car0", 49152, 0, 7)
ISO_SUITE = "ECDHE-ECDSA-AES128-SHA256"


def own_certificate() -> tuple[bytes, bytes]:
    """(certificate, private key) of a station, PEM, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SECC")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


class TlsPair:
    """Car and station with TLS between them, in memory. Each record is written to the capture,
    which is the station's unless `by_car`."""

    def __init__(
        self,
        capture: Capture,
        *,
        suite: str = ISO_SUITE,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        chain: tuple[bytes, bytes] | None = None,
        by_car: bool = False,
        port: int = CAR[1],
        options: int = 0,
    ) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in (client, server):
            context.options |= options
            context.minimum_version = context.maximum_version = version
            if version == ssl.TLSVersion.TLSv1_2:
                context.set_ciphers(suite)
        with tempfile.TemporaryDirectory() as folder:
            for file, pem in zip(("chain", "key"), chain or own_certificate(), strict=True):
                (Path(folder) / file).write_bytes(pem)
            server.load_cert_chain(f"{folder}/chain", f"{folder}/key")
        (client if by_car else server).keylog_filename = capture.keys
        car = (CAR[0], port)
        ends = (car, STATION) if by_car else (STATION, car)
        self.connection = capture.connection(*ends)
        self._directions = {True: "out", False: "in"} if by_car else {True: "in", False: "out"}
        self._bios = {is_car: (ssl.MemoryBIO(), ssl.MemoryBIO()) for is_car in (True, False)}
        self._ends = {
            True: client.wrap_bio(*self._bios[True]),
            False: server.wrap_bio(*self._bios[False], server_side=True),
        }
        self._shake_hands()

    def send(self, data: bytes, *, by_car: bool) -> bytes:
        """The bytes that arrive at the other end."""
        self._ends[by_car].write(data)
        self._carry(by_car)
        return self._ends[not by_car].read(len(data)) if data else b""

    def close(self) -> None:
        for is_car in (True, False):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._ends[is_car].unwrap()
            self._carry(is_car)
        self.connection.close(self._directions[True])

    def _shake_hands(self) -> None:
        waiting = {True, False}
        while waiting:
            for is_car in (True, False):
                try:
                    self._ends[is_car].do_handshake()
                    waiting.discard(is_car)
                except ssl.SSLWantReadError:
                    pass
                self._carry(is_car)

    def _carry(self, by_car: bool) -> None:
        data = self._bios[by_car][1].read()
        if data:
            self.connection.wire(self._directions[by_car], data)
            self._bios[not by_car][0].write(data)


def converse(pair: TlsPair, messages: Iterable[tuple[bool, bytes]]) -> None:
    """Send each (by the car?, bytes)."""
    for by_car, data in messages:
        pair.send(data, by_car=by_car)


def station_chain(world: World) -> tuple[bytes, bytes]:
    """(chain, private key) of the station in `world`, PEM."""
    issued = (world.cpo, world.cpo_sub2, world.cpo_sub1)
    pem = b"".join(each.certificate.public_bytes(serialization.Encoding.PEM) for each in issued)
    assert world.cpo.key is not None
    key = world.cpo.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, key


def steady_clock(start: int, step: int = 3_000_000) -> Callable[[], int]:
    """Nanoseconds that go on by `step` with each call."""
    times = itertools.count(start * 1_000_000_000, step)
    return lambda: next(times)


def session(world: World) -> list[tuple[bool, bytes]]:
    """(by the car?, V2GTP message) of a whole session with a live installation: our station's
    answers to requests that keys of `world` have signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = world.provisioning(point(key))
    dialogue = _Dialogue(world)
    dialogue.ask("supportedAppProtocolReq", messages.supported_app_protocol_req())
    dialogue.ask("SessionSetupReq", messages.session_setup_req(bytes(6)))
    dialogue.ask("ServiceDiscoveryReq", messages.service_discovery_req())
    dialogue.ask("ServiceDetailReq", messages.service_detail_req(2))
    services = [(1, None), (2, 1)]
    selection = messages.payment_service_selection_req("Contract", services)
    dialogue.ask("PaymentServiceSelectionReq", selection)
    root = parsed.parse(world.v2g_root.der)
    request = messages.certificate_installation_req("id1", leaf.der, [root])
    dialogue.ask("CertificateInstallationReq", request, key)
    dialogue.answer(world.response(point(key), session_id=dialogue.secc.session_id))
    dialogue.ask("PaymentDetailsReq", messages.payment_details_req(EMAID, world.contract.chain))
    body = messages.authorization_req("id1", dialogue.secc.challenge)
    dialogue.ask("AuthorizationReq", body, world.contract_key)
    dialogue.ask("SessionStopReq", messages.session_stop_req())
    return dialogue.frames


class _Dialogue:
    def __init__(self, world: World) -> None:
        anchors = [world.v2g_root.der, world.mo_root.der]
        self.secc = Secc(Offer(), anchors, lambda: world.now, 0, secure=True)
        self.frames: list[tuple[bool, bytes]] = []

    def ask(self, name: str, body: Any, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        signed = None
        if key is not None:
            info = signature.sign([(body["Id"], name, body)], lambda _: b"")["SignedInfo"]
            value = sign(key, exi.fragment("SignedInfo", info, "xmldsig"))
            signed = {"SignedInfo": info, "SignatureValue": {"value": value}}
        payload = (
            exi.encode({name: body}, "sap")
            if name.startswith("supported")
            else exi.encode(messages.envelope(self.secc.session_id, name, body, signed))
        )
        frame = v2gtp.encode(payload)
        self.frames.append((True, frame))
        self._keep(self.secc.receive(frame, 1)[0])

    def answer(self, response: bytes) -> None:
        """The operator's answer to a request for a contract."""
        self._keep(self.secc.fetched(response, 1)[0])

    def _keep(self, frames: list[bytes]) -> None:
        self.frames += [(False, frame) for frame in frames]


def tshark(*arguments: str) -> str:
    """The output of Wireshark's `tshark`."""
    ended = subprocess.run(
        ["tshark", *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return ended.stdout


def followed(path: Path, layer: str) -> list[tuple[bool, bytes]]:
    """(by the client?, bytes) of the first stream, pieces of one direction joined."""
    found: list[tuple[bool, bytes]] = []
    lines = tshark("-r", str(path), "-q", "-z", f"follow,{layer},raw,0").splitlines()
    for line in lines:
        if set(line.strip()) <= set("0123456789abcdef") and line.strip():
            by_client = not line.startswith("\t")
            data = bytes.fromhex(line.strip())
            if found and found[-1][0] == by_client:
                data = found.pop()[1] + data
            found.append((by_client, data))
    return found
