"""Requests to the partners of this ecosystem, and the checks of their answers.

A partner that does not answer, is slow, sends a wrong answer or has no usable link counts as a
partner without an answer. PCP holds a vehicle of a partner as a copy with its origin, and the copy
is refreshed before each use: a new key of the vehicle, or its deletion there, deletes its
contracts here too. Only the partner's own answer does so.
"""

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from evcc import exi
from evcc.x509 import CertificateError
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2 import xml
from plugvault.contract.iso15118_2.bundle import ISO2, Message
from plugvault.federation.clients import Clients, Link
from plugvault.pki import path
from plugvault.pools import ccp, installation, pcp, peers, rcp
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Store
from plugvault.roles.client import OpcpClient, OpcpError, contract_data, encode
from plugvault.seldom import Seldom

log = logging.getLogger("plugvault.federation")

T = TypeVar("T")
TIMEOUT = 1.5  # seconds: a vehicle at a station waits 5 for everything [V2G2-711]
ANSWER_TIMEOUT = 4.0  # seconds for a whole answer, with an access token and roots
PAUSE = 1.0  # seconds between two fetches of the partners' roots
NO_BROADCAST = {"broadcast": "true"}

_UNUSABLE = (
    TimeoutError,
    OpcpError,
    PoolError,
    CertificateError,
    exi.ExiError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
)


@dataclass(frozen=True)
class Installed:
    """A partner's contract for a vehicle. `message`: CertificateInstallationRes in EXI."""

    message: bytes
    emaid: str
    root_fingerprint: str
    metadata: str | None


class Federation:
    """The partners of this ecosystem. Safe to use from several threads. `close()` when done.

    `links`: see `Clients`. `clock()`: Unix seconds. `dual_control`: an administrator must approve
    the partners' roots. The methods that ask partners raise PoolError only, for this ecosystem's
    own store and arguments.
    """

    def __init__(
        self,
        store: Store,
        links: Mapping[str, Link],
        clock: Callable[[], float],
        dual_control: bool = False,
    ) -> None:
        self._dual_control = dual_control
        self._store = store
        self._clients = Clients(links)
        self._clock = clock
        self._cut = Seldom(log, "a partner has more roots than it may: {}")
        self._lock = Lock()
        self._fetched = float("-inf")

    def close(self) -> None:
        self._clients.close()

    @property
    def linked(self) -> bool:
        """Whether this ecosystem has a link to a partner, or cannot know."""
        return self._clients.linked

    def refresh_vehicle(self, pcid: str) -> None:
        """Update PCP's copy of a partner's vehicle. A vehicle of this ecosystem is not touched."""
        if not self._clients.linked:
            return
        pcid = read_pcid(pcid)
        with self._store.read() as records:
            vehicle = records.vehicles.get(pcid.upper(), ISO2)
            partners = peers.active(records)
        if vehicle and not vehicle.origin:
            return
        if vehicle:
            partners = [name for name in partners if name == vehicle.origin]
        copy, failed = self._first(partners, lambda name, client: self._copy(name, client, pcid))
        if copy is None and vehicle and not failed and partners:
            self._remove(vehicle)

    def _remove(self, copy: Provisioning) -> None:
        """Delete a copy that its partner no longer has, if it is still the stored one."""
        with self._store.write() as records:
            records.lock(copy.vehicle)
            if records.vehicles.get(copy.vehicle, ISO2) == copy:
                pcp.remove(records, copy, self._clock())

    def install(self, request: bytes, roots: Sequence[tuple[str, int]]) -> Installed | None:
        """A contract that a partner has for a vehicle's request (EXI), or None."""
        answer, _ = self._first(
            self._active(), lambda _, client: self._contract(client, request, roots)
        )
        return answer

    def sign(self, data: ContractData, vehicle: Provisioning) -> Message | None:
        """Contract data signed by a partner whose CPS is under a root of the vehicle, or None."""
        roots = vehicle.v2g_roots.split(",")
        with self._store.read() as records:
            is_known = any(rcp.key_identifier(root) in roots for root in records.roots.all("V2G"))
        if not is_known:
            self.fetch_roots()
        answer, _ = self._first(
            self._active(), lambda _, client: self._signed(client, data, roots)
        )
        return answer

    def fetch_roots(self) -> bool:
        """Fetch the partners' own roots into RCP. Returns whether one of them is new."""
        with self._lock:  # a concurrent caller waits, and the roots are then in RCP
            if time.monotonic() < self._fetched + PAUSE:
                return False
            try:
                return self._fetch_roots()
            finally:
                self._fetched = time.monotonic()

    def _fetch_roots(self) -> bool:
        futures = {
            name: partner.threads.submit(self._roots, partner.client)
            for name, partner in self._clients.open(self._active()).items()
        }
        new = False
        for name, future in futures.items():
            try:
                roots = future.result(ANSWER_TIMEOUT)
            except _UNUSABLE as error:
                log.warning("no roots from %s: %s", name, error)
                continue
            for kind, certificate in roots:
                new |= self._adopt_root(name, certificate, kind)
        return new

    def _first(
        self, partners: Sequence[str], ask: Callable[[str, OpcpClient], T | None]
    ) -> tuple[T | None, bool]:
        """Ask the partners concurrently: (first usable answer, whether a partner failed)."""
        opened = self._clients.open(partners)
        names = {
            partner.threads.submit(ask, name, partner.client): name
            for name, partner in opened.items()
        }
        failed = len(opened) < len(partners)
        try:
            for future in as_completed(names, ANSWER_TIMEOUT):
                try:
                    answer = future.result()
                except _UNUSABLE as error:
                    log.warning("no usable answer from %s: %s", names[future], error)
                    failed = True
                    continue
                if answer is not None:
                    return answer, failed
        except TimeoutError:
            late = {name for future, name in names.items() if not future.done()}
            log.warning("no answer in time from %s", ", ".join(sorted(late)))
            failed = True
        return None, failed

    def _active(self) -> list[str]:
        if not self._clients.linked:
            return []
        with self._store.read() as records:
            return peers.active(records)

    def _copy(self, name: str, client: OpcpClient, pcid: str) -> Provisioning | None:
        answer = _json(client, "GET", f"/v1/oem/provCerts/{pcid}")
        if answer is None:
            return None
        message = answer["OEMMessage"]
        leaf, sub2, sub1 = (
            base64.b64decode(message[field], validate=True) if message.get(field) else None
            for field in ("vehicleCertificate", "subCA2Certificate", "subCA1Certificate")
        )
        if not leaf or not sub1:
            raise PoolError("invalid", "a vehicle without its certificates")
        names = pcp.read_certificate(leaf, "vehicleCertificate").names
        if names.get("CN", "").upper() != pcid.upper():
            raise PoolError("invalid", "another vehicle than the requested one")

        roots = [str(root) for root in message.get("v2gRootAuthorityKeyIdentifiers", ())]

        def adopt() -> Provisioning:
            with self._store.write() as records:
                return pcp.adopt(records, name, leaf, sub2, sub1, self._clock(), roots)

        return self._with_roots(adopt)

    def _contract(
        self, client: OpcpClient, request: bytes, roots: Sequence[tuple[str, int]]
    ) -> Installed | None:
        answer = _json(
            client,
            "POST",
            "/v1/ccp/signedContractData",
            headers={"alwaysReturnEXI": "false"},
            json={"certificateInstallationReq": encode(request), "xsdMsgDefNamespace": ISO2},
        )
        if answer is None:
            return None
        definition = answer["CCPResponse"]["emaidContent"][0]["messageDef"]
        message = base64.b64decode(definition["certificateInstallationRes"], validate=True)

        def check() -> Installed:
            now = self._clock()
            with self._store.write() as records:
                bundle = ccp.forward(records, exi.decode(message), now)
                root = path.fingerprint(bundle.root.der)
                if not installation.is_listed(records, root, roots):
                    raise PoolError("invalid", "a bundle under a root that the vehicle lacks")
            return Installed(message, bundle.data.emaid, root, metadata)

        metadata = definition.get("metaData")
        if metadata is not None and not isinstance(metadata, str):
            raise TypeError("metaData is no text")
        return self._with_roots(check)

    def _signed(
        self, client: OpcpClient, data: ContractData, key_identifiers: Sequence[str]
    ) -> Message | None:
        signers = _json(client, "GET", "/v1/cps/signer") or {"cpsCertificates": ()}
        fingerprints = {
            signer["cpsV2GRootCertificateFingerprint"] for signer in signers["cpsCertificates"]
        }
        with self._store.read() as records:
            roots = [
                root
                for root in records.roots.all("V2G")
                if root.fingerprint in fingerprints and rcp.key_identifier(root) in key_identifiers
            ]
        if not roots:
            return None
        answer = _json(
            client,
            "PUT",
            "/v1/cps/contractData/signed",
            json={
                "contractData": contract_data(data),
                "xsdMsgDefNamespace": ISO2,
                "cpsV2GRootCertificateFingerprint": roots[0].fingerprint,
            },
        )
        return xml.read(base64.b64decode(answer["signedData"])) if answer else None

    def _roots(self, client: OpcpClient) -> list[tuple[str, bytes]]:
        answer = _json(client, "GET", "/v1/root/rootCerts") or {}
        roots = answer["RootCertificateCollection"]["rootCertificates"]
        if len(roots) > peers.MOST:
            self._cut("the first %d of %d are taken", peers.MOST, len(roots))
        return [
            (str(root["rootType"]), base64.b64decode(root["caCertificate"], validate=True))
            for root in roots[: peers.MOST]
        ]

    def _adopt_root(self, name: str, certificate: bytes, kind: str) -> bool:
        try:
            with self._store.write() as records:
                return peers.adopt_root(
                    records, name, certificate, kind, self._clock(), self._dual_control
                )
        except PoolError as error:
            log.warning("a root of %s is not usable: %s", name, error)
            return False

    def _with_roots(self, step: Callable[[], T]) -> T:
        """The result of `step()`. When it fails and the partners have new roots, `step` is called
        once more."""
        try:
            return step()
        except PoolError:
            if not self.fetch_roots():
                raise
            return step()


def _json(client: OpcpClient, method: str, path: str, **options: Any) -> Any:
    """The answer, or None for 404. Raises OpcpError for any other refusal."""
    headers = {**NO_BROADCAST, **options.pop("headers", {})}
    answer = client.request(method, path, headers=headers, timeout=TIMEOUT, **options)
    if answer.status_code == 404:
        return None
    if not answer.is_success:
        raise OpcpError("refused", f"{answer.status_code} {path}", answer.status_code)
    return answer.json()
