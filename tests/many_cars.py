"""Many cars at once, in one process: the module's sessions with keys in software, real sockets.

    cars = [Car(pcid, key, leaf, anchors, folder, now), ...]
    report = asyncio.run(charge_together(cars, addresses))

Every car goes through its session up to its CertificateInstallationReq. When all of them are
there, all requests are sent together, so that stations, operator and CCP have all cars at once.
Then each car installs its contract and authorizes. `Car.waited` is the time between a request and
the last byte of its response. Only this time counts: the cars share one process, and the time that
one of them computes is not another's waiting time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256

from evcc.car import CarContext
from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, install
from evcc.iso15118_2.session import CERTIFICATE_INSTALLATION, Session
from evcc.link import v2gtp
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import PROVISIONING, VaultError
from plugvault.pki.verify import verify_p256
from world import point

PATIENCE = 120.0  # seconds: ends a test that hangs


class SoftwareVault:
    """A car's keys in software, fast enough for a thousand cars. Interface: `evcc.vault`."""

    def __init__(self, provisioning: ec.EllipticCurvePrivateKey) -> None:
        self._keys = {PROVISIONING: provisioning}

    def public(self, key: bytes) -> bytes:
        return point(self._keys[key])

    def keys(self) -> list[tuple[bytes, bytes]]:
        return [(name, point(key)) for name, key in self._keys.items()]

    def sign(self, key: bytes, digest: bytes) -> bytes:
        signature = self._keys[key].sign(digest, ec.ECDSA(Prehashed(SHA256())))
        r, s = decode_dss_signature(signature)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, public: bytes, digest: bytes, signature: bytes) -> bool:
        return verify_p256(public, digest, signature)

    def open_contract_key(
        self,
        scheme: str,
        dh_point: bytes,
        wrapped: bytes,
        aad: bytes,
        expected_public: bytes,
        key: bytes = b"",
    ) -> bytes:
        sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), dh_point)
        z = self._keys[PROVISIONING].exchange(ec.ECDH(), sender)
        content_key = hashlib.sha256(b"\0\0\0\1" + z + b"\x01\x55\x56").digest()[:16]
        decryptor = Cipher(algorithms.AES(content_key), modes.CBC(wrapped[:16])).decryptor()
        scalar = int.from_bytes(decryptor.update(wrapped[16:]), "big")
        opened = ec.derive_private_key(scalar, ec.SECP256R1())
        if point(opened) != expected_public:
            raise VaultError("key-mismatch")
        name = key or os.urandom(16)
        self._keys[name] = opened
        return name

    def delete(self, key: bytes) -> None:
        del self._keys[key]

    def custody(self, key: bytes) -> str:
        return "L0"

    def random(self, count: int) -> bytes:
        return os.urandom(count)


class Car:
    """One car. `waited`: seconds for its CertificateInstallationRes; `events`: of its session."""

    def __init__(
        self,
        pcid: str,
        key: ec.EllipticCurvePrivateKey,
        leaf: bytes,
        anchors: Sequence[tuple[str, bytes]],
        folder: Path,
        now: int,
    ) -> None:
        """anchors: (kind, DER) of its roots. folder: for its files, made here."""
        self.pcid, self.certificate = pcid, leaf
        self._now = now
        self._vault = SoftwareVault(key)
        folder.mkdir(parents=True)
        files = Files(str(folder))
        self._trust = Trust(files, self._vault.verify)
        self._trust.install("EU", anchors, now)
        self._contracts = Contracts(files)
        clock = SimpleNamespace(now=lambda: now, source=lambda: "clock")
        context = CarContext(self._vault, self, self._trust, self._contracts, clock)
        self._session = Session(
            context, want_contract=True, installer=self._install, insecure_contract=True
        )
        self.waited = 0.0
        self.events: list[tuple[str, str]] = []

    @property
    def billed(self) -> str:
        """The EMAID of its authorization; "" without one."""
        return dict(self.events).get("authorized", "")

    async def plug_in(self, address: tuple[str, int]) -> None:
        """Run the session until the CertificateInstallationReq is ready to be sent."""
        self._reader, self._writer = await asyncio.open_connection(*address)
        self._frames = self._session.start(0)
        while self._session.state not in (CERTIFICATE_INSTALLATION, "CLOSED"):
            await self._step()

    async def install(self) -> None:
        """Send the request, and receive the response without decoding it."""
        began = time.perf_counter()
        await self._send()
        self._response = await self._receive()
        self.waited = time.perf_counter() - began

    async def charge(self) -> None:
        """Install the contract of the response, and run the rest of the session."""
        self._take(self._response)
        while self._session.state != "CLOSED":
            await self._step()
        self._writer.close()

    async def _step(self) -> None:
        await self._send()
        self._take(await self._receive())

    async def _send(self) -> None:
        for frame in self._frames:
            self._writer.write(frame)
        await self._writer.drain()

    async def _receive(self) -> bytes:
        """One V2GTP message; a part of it if the station has closed the connection."""
        try:
            header = await self._reader.readexactly(v2gtp.HEADER_BYTES)
            length = int.from_bytes(header[4:], "big")
            return header + await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return b""

    def _take(self, data: bytes) -> None:
        if data:
            # The session's own clock stands still: its timers are not what is measured.
            self._frames, events = self._session.receive(data, 0)
        else:
            self._session.state, self._frames, events = "CLOSED", [], [("lost", "")]
        self.events += events

    def _install(self, response: Any, session_id: bytes) -> Any:
        request = InstallationRequest.at_station(session_id)
        args = (response, request, self._trust, self._contracts, self._vault, self._now)
        return install(*args)


async def charge_together(cars: Sequence[Car], addresses: Sequence[tuple[str, int]]) -> None:
    """Run the sessions of all cars; car number i is at addresses[i % len(addresses)]."""

    async def all_of(steps: Any) -> None:
        await asyncio.wait_for(asyncio.gather(*steps), PATIENCE)

    places = [addresses[i % len(addresses)] for i in range(len(cars))]
    await all_of(car.plug_in(place) for car, place in zip(cars, places, strict=True))
    await all_of(car.install() for car in cars)
    await all_of(car.charge() for car in cars)
