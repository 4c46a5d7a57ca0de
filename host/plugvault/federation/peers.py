"""What this ecosystem asks its partners, and what it believes of their answers.

A partner that is silent, slow or wrong is no answer, and is named in the log. A vehicle of another
ecosystem is kept as a copy that says where it is from and is asked for again before each use, so
that its new key or its end there also ends here what was made for it.
"""

import base64
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import httpx

from evcc import exi
from evcc.x509 import CertificateError
from plugvault.contract.iso15118_2 import xml
from plugvault.contract.iso15118_2.bundle import ISO2, Message
from plugvault.contract.issue import ContractData
from plugvault.pki import path
from plugvault.pools import ccp, installation, pcp, peers, rcp
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Records, Store
from plugvault.roles.client import Credentials, OpcpClient, OpcpError, contract_data, encode

log = logging.getLogger("plugvault.federation")

T = TypeVar("T")
TIMEOUT = 1.5  # seconds: a vehicle at a station waits 5 for everything [V2G2-711]
PATIENCE = 4.0  # seconds for all that one answer takes, a token and roots with it
_THREADS = 8  # questions to one partner at once, of all requests together
PAUSE = 1.0  # seconds between two fetches of the partners' roots
ONLY_YOURS = {"broadcast": "true"}

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
class Link(Credentials):
    """What a partner is called with, at `audience`. `trust`: PEM of the roots its HTTPS stands
    under, where they are not this machine's own."""

    trust: str | None = None

    def open(self) -> OpcpClient:
        """Close it when done. Raises ValueError when `trust` cannot be read."""
        trust = None
        if self.trust is not None:
            try:
                trust = ssl.create_default_context(cadata=self.trust)
            except ssl.SSLError as error:
                raise ValueError("no certificate in PEM") from error
        return OpcpClient(self.audience, self, trust)


@dataclass(frozen=True)
class Installed:
    """A partner's contract for a vehicle. `message`: CertificateInstallationRes in EXI."""

    message: bytes
    emaid: str
    root_fingerprint: str
    metadata: str | None


class Federation:
    """`links`: what each partner is called with, by its name; more may come while this is in
    use. `clock()`: Unix seconds. `dual_control`: an administrator has to agree to the partners'
    roots. `close()` when done."""

    def __init__(
        self,
        store: Store,
        links: Mapping[str, Link],
        clock: Callable[[], float],
        dual_control: bool = False,
    ) -> None:
        self._dual_control = dual_control
        self._store = store
        self._known = links
        self._clock = clock
        self._links: dict[str, OpcpClient] = {}
        self._opened: dict[str, Link] = {}  # what those were opened with
        self._threads: dict[str, ThreadPoolExecutor] = {}  # nobody's slowness in another's way
        self._lock = Lock()
        self._fetched = float("-inf")

    def close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)
        for link in self._links.values():
            link.close()

    @property
    def linked(self) -> bool:
        return bool(self._known)

    def know(self, pcid: str) -> None:
        """Have what the partners say of a vehicle that is not ours, before it is used."""
        if not self._known:
            return
        pcid = read_pcid(pcid)
        with self._store.read() as records:
            known = records.vehicles.get(pcid.upper(), ISO2)
            partners = peers.active(records)
        if known and not known.origin:
            return
        if known:
            partners = [name for name in partners if name == known.origin]
        found, silent = self._first(partners, lambda name, link: self._vehicle(name, link, pcid))
        if found is None and known and not silent and partners:
            with self._store.write() as records:
                pcp.remove(records, known, self._clock())

    def install(self, request: bytes, roots: Sequence[tuple[str, int]]) -> Installed | None:
        """A contract that a partner has for a vehicle's request (EXI), or None."""
        return self._first(self._active(), lambda _, link: self._contract(link, request, roots))[0]

    def sign(self, data: ContractData, vehicle: Provisioning) -> Message | None:
        """Contract data signed by the partner whose CPS stands under a root the vehicle has."""
        wanted = vehicle.v2g_roots.split(",")
        with self._store.read() as records:
            known = any(rcp.key_identifier(root) in wanted for root in records.roots.all("V2G"))
        if not known:
            self.roots()
        return self._first(self._active(), lambda _, link: self._signed(link, data, wanted))[0]

    def roots(self) -> bool:
        """Fetch the partners' own roots into RCP; whether there were new ones."""
        with self._lock:  # whoever comes while another fetches waits, and finds them there
            if time.monotonic() < self._fetched + PAUSE:
                return False
            try:
                return self._fetch_roots()
            finally:
                self._fetched = time.monotonic()

    def _fetch_roots(self) -> bool:
        asked = {
            name: self._threads[name].submit(self._roots, link)
            for name, link in self._reached(self._active())
        }
        new = False
        for name, future in asked.items():
            try:
                listed = future.result(PATIENCE)
            except _UNUSABLE as error:
                log.warning("no roots from %s: %s", name, error)
                continue
            for kind, certificate in listed:
                new |= self._adopt_root(name, certificate, kind)
        return new

    def _first(
        self, partners: Sequence[str], ask: Callable[[str, OpcpClient], T | None]
    ) -> tuple[T | None, bool]:
        """The first usable answer of all who are asked at once; and whether one was silent."""
        asked = {
            self._threads[name].submit(ask, name, link): name
            for name, link in self._reached(partners)
        }
        silent = False
        try:
            for future in as_completed(asked, PATIENCE):
                try:
                    answer = future.result()
                except _UNUSABLE as error:
                    log.warning("no usable answer from %s: %s", asked[future], error)
                    silent = True
                    continue
                if answer is not None:
                    return answer, silent
        except TimeoutError:
            late = {name for future, name in asked.items() if not future.done()}
            log.warning("no answer in time from %s", ", ".join(sorted(late)))
            silent = True
        return None, silent

    def _active(self) -> list[str]:
        if not self._known:
            return []
        with self._store.read() as records:
            return peers.active(records)

    def _reached(self, names: Sequence[str]) -> list[tuple[str, OpcpClient]]:
        for name in names:
            to = self._known.get(name)
            if to and to != self._opened.get(name):
                if name not in self._threads:
                    self._threads[name] = ThreadPoolExecutor(_THREADS, f"plugvault-{name}")
                self._links[name] = to.open()
                self._opened[name] = to
        return [(name, self._links[name]) for name in names if name in self._links]

    def _vehicle(self, name: str, link: OpcpClient, pcid: str) -> Provisioning | None:
        said = _json(link, "GET", f"/v1/oem/provCerts/{pcid}")
        if said is None:
            return None
        found = said["OEMMessage"]
        leaf, sub2, sub1 = (
            base64.b64decode(found[field], validate=True) if found.get(field) else None
            for field in ("vehicleCertificate", "subCA2Certificate", "subCA1Certificate")
        )
        if not leaf or not sub1:
            raise PoolError("invalid", "a vehicle without its certificates")
        names = pcp.read_certificate(leaf, "vehicleCertificate").names
        if names.get("CN", "").upper() != pcid.upper():
            raise PoolError("invalid", "another vehicle than the one asked for")

        roots = [str(root) for root in found.get("v2gRootAuthorityKeyIdentifiers", ())]

        def keep() -> Provisioning:
            with self._store.write() as records:
                return pcp.adopt(records, name, leaf, sub2, sub1, self._clock(), roots)

        return self._with_roots(keep)

    def _contract(
        self, link: OpcpClient, request: bytes, roots: Sequence[tuple[str, int]]
    ) -> Installed | None:
        said = _json(
            link,
            "POST",
            "/v1/ccp/signedContractData",
            headers={"alwaysReturnEXI": "false"},
            json={"certificateInstallationReq": encode(request), "xsdMsgDefNamespace": ISO2},
        )
        if said is None:
            return None
        given = said["CCPResponse"]["emaidContent"][0]["messageDef"]
        message = base64.b64decode(given["certificateInstallationRes"], validate=True)

        def check() -> Installed:
            now = self._clock()
            with self._store.write() as records:
                bundle = ccp.forward(records, exi.decode(message), now)
                root = path.fingerprint(bundle.root.der)
                if not installation.is_listed(records, root, roots):
                    raise PoolError("invalid", "a bundle under a root that the vehicle lacks")
            return Installed(message, bundle.data.emaid, root, metadata)

        metadata = given.get("metaData")
        if metadata is not None and not isinstance(metadata, str):
            raise TypeError("metaData is no text")
        return self._with_roots(check)

    def _signed(
        self, link: OpcpClient, data: ContractData, wanted: Sequence[str]
    ) -> Message | None:
        listed = _json(link, "GET", "/v1/cps/signer") or {"cpsCertificates": ()}
        names = {
            signer["cpsV2GRootCertificateFingerprint"] for signer in listed["cpsCertificates"]
        }
        with self._store.read() as records:
            fitting = [root for root in _v2g(records, names) if rcp.key_identifier(root) in wanted]
        if not fitting:
            return None
        answer = _json(
            link,
            "PUT",
            "/v1/cps/contractData/signed",
            json={
                "contractData": contract_data(data),
                "xsdMsgDefNamespace": ISO2,
                "cpsV2GRootCertificateFingerprint": fitting[0].fingerprint,
            },
        )
        return xml.read(base64.b64decode(answer["signedData"])) if answer else None

    def _roots(self, link: OpcpClient) -> list[tuple[str, bytes]]:
        answer = _json(link, "GET", "/v1/root/rootCerts") or {}
        listed = answer["RootCertificateCollection"]["rootCertificates"]
        return [
            (str(root["rootType"]), base64.b64decode(root["caCertificate"], validate=True))
            for root in listed[: peers.MOST]
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
        """Do it; when RCP may lack a root, fetch the partners' and do it once more."""
        try:
            return step()
        except PoolError:
            if not self.roots():
                raise
            return step()


def _json(link: OpcpClient, method: str, path: str, **options: Any) -> Any:
    """The answer, or None for 404. Raises OpcpError for any other refusal."""
    headers = {**ONLY_YOURS, **options.pop("headers", {})}
    answer: httpx.Response = link.request(
        method, path, headers=headers, timeout=TIMEOUT, **options
    )
    if answer.status_code == 404:
        return None
    if not answer.is_success:
        raise OpcpError("refused", f"{answer.status_code} {path}", answer.status_code)
    return answer.json()


def _v2g(records: Records, fingerprints: set[str]) -> list[Any]:
    return [root for root in records.roots.all("V2G") if root.fingerprint in fingerprints]
