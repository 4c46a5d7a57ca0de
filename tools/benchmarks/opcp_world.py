"""The ecosystem as users run it, in processes of its own, and vehicles enough to ask it about.

The server is `plugvault sandbox`. Vehicles go into its pools through the store, because their
registration is not measured, and their requests are made before the measurement. `opcp_load.py`
sends the requests, in a process of its own, on the same two cores.
"""

import json
import marshal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Table

from evcc import exi, signature, x509
from evcc.check_digit import emaid_check_digit
from evcc.iso15118_2 import messages
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.folder import Folder
from plugvault.opcp.fields import encode
from plugvault.pki import path
from plugvault.pki.issue import issue
from plugvault.pki.keys import raw_signer
from plugvault.pools.records import Provisioning
from plugvault.store import SqlStore

HERE = Path(__file__).parent
CONNECTIONS = 8
BATCH, PART = 5_000, 20_000  # rows in one transaction, with `put` and as copies


class Server:
    """A sandbox in processes of its own. `folder`: its --data; `database`: its URL; `processes`:
    that answer; `port`: TCP; `tokens`: an access token by role; `pid`: of the first process."""

    def __init__(self, folder: Path, database: str, processes: int) -> None:
        self.folder, self.database = folder, database
        command = [Path(sys.executable).with_name("plugvault"), "sandbox", "--json", "--port=0"]
        command += [f"--data={folder}", f"--database={database}", f"--processes={processes}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.pid = self._process.pid
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sandbox did not start")
        self.report = json.loads(line)
        self.port = int(self.report["url"].rsplit(":", 1)[1])
        self.tokens = {
            role: self._token(credentials) for role, credentials in self.report["roles"].items()
        }

    def _token(self, credentials: dict[str, str]) -> str:
        body = json.dumps({**credentials, "grant_type": "client_credentials"}).encode()
        request = Request(self.report["token_url"], body, {"Content-Type": "application/json"})
        with urlopen(request) as answer:
            return str(json.load(answer)["access_token"])

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def send(self, calls: Sequence["Call"], rate: float = 0.0) -> dict[str, Any]:
        """The report of `opcp_load.py` on these calls. rate: requests a second; 0: no pauses.

        Raises: RuntimeError when a call is refused."""
        with self.sending(calls, rate) as sent:
            pass
        return sent

    @contextmanager
    def sending(self, calls: Sequence["Call"], rate: float) -> Iterator[dict[str, Any]]:
        """As `send`, beside the work of the block; the report is filled in at the block's end."""
        command = [sys.executable, HERE / "opcp_load.py", self.port, CONNECTIONS, rate]
        wire = marshal.dumps([call.wire(self.tokens) for call in calls])
        report: dict[str, Any] = {}
        with subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as load:
            assert load.stdin
            load.stdin.write(wire)
            load.stdin.close()
            yield report
            assert load.stdout
            report |= json.load(load.stdout)
        if report["refused"]:
            raise RuntimeError(f"{report['statuses']}: {report['refused']}")


def multiply(file: Path, table: Table, count: int, changed: Mapping[str, str]) -> None:
    """Fill a table of a SQLite database with `count` copies of its last row. changed: SQL
    expressions by column, for the columns in which the copies differ; `i` is a copy's number,
    from 1 on."""
    names = ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118
    values = ", ".join(changed.get(name, f't."{name}"') for name in table.columns.keys())  # noqa: SIM118
    with closing(sqlite3.connect(file)) as database:
        (last,) = database.execute(f"SELECT max(rowid) FROM {table.name}").fetchone()
        for first in range(0, count, PART):  # the server writes between two parts
            database.execute(
                f"WITH RECURSIVE n(i) AS (SELECT {first + 1} UNION ALL"
                f" SELECT i + 1 FROM n WHERE i < {min(first + PART, count)})"
                f" INSERT INTO {table.name} ({names})"
                f" SELECT {values} FROM n CROSS JOIN {table.name} AS t WHERE t.rowid = {last}"
            )
            database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def serving(folder: Path, database: str | None = None, processes: int = 1) -> Iterator[Server]:
    """A `Server` for a block. database: a URL; None: SQLite in `folder`."""
    server = Server(folder, database or f"sqlite:///{folder / 'ecosystem.sqlite'}", processes)
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True)
class Call:
    """One request. `role`: the role of its access token; `media`: type of the body."""

    method: str
    path: str
    role: str
    body: bytes = b""
    media: str = "application/json"

    def wire(self, tokens: dict[str, str]) -> bytes:
        """The whole HTTP/1.1 request. tokens: access tokens by role."""
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {tokens[self.role]}\r\n"
            f"Content-Type: {self.media}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(frozen=True)
class Car:
    """A vehicle: its PCID, its provisioning key, and its provisioning certificate, DER."""

    pcid: str
    key: ec.EllipticCurvePrivateKey
    leaf: bytes


class Fleet:
    """Vehicles and contracts of a sandbox's own maker and operator, made with its keys.

    `hosted`: the CA that issues for operators without a PKI. `anchors`: (kind, DER) of the roots.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.now = time.time()
        data = Folder(folder)
        self._pki = Authorities(data, data.tokens(stack, *LABELS), self.now, "http://localhost")
        self._v2g = x509.parse(self._pki.v2g.root)
        self.hosted = self._pki.hosted
        self.anchors = [
            ("V2G", self._pki.v2g.root),
            ("OEM", self._pki.oem.root),
            ("MO", self._pki.mo.root),
        ]

    def car(self, number: int) -> Car:
        """A vehicle with a new key and certificate; its PCID has the number."""
        key, pcid = ec.generate_private_key(ec.SECP256R1()), f"PVTB{number:013}"
        names = {"C": "DE", "O": "Example Cars", "CN": pcid}
        leaf = issue("provisioning", names, key.public_key(), self._pki.vehicles, self.now)
        return Car(pcid, key, leaf)

    def record(self, pcid: str, leaf: bytes) -> Provisioning:
        """The record of PCP for a vehicle. leaf: its provisioning certificate, DER."""
        read = path.read(leaf)
        sub2, sub1 = self._pki.vehicles.path
        return Provisioning(
            pcid,
            ISO2,
            pcid,
            leaf,
            sub2,
            sub1,
            self._pki.oem.root,
            (self._v2g.ski or b"").hex(),
            None,
            read.not_after,
            *path.identity(read),
        )

    def register(self, database: str, vehicles: Iterator[Provisioning]) -> None:
        """Put vehicles into the pool of a sandbox."""
        store = SqlStore.open(database)
        while batch := list(islice(vehicles, BATCH)):
            with store.write() as records:
                for vehicle in batch:
                    records.vehicles.put(vehicle)
        store.close()

    def put(self, car: Car, number: int) -> Call:
        """PUT contractData/signed, for a new contract."""
        base = f"DEPVAC{number:08}"
        emaid = base + emaid_check_digit(base)
        data = issue_contract(emaid, car.leaf, self._pki.operator, self.now)
        sub2, sub1 = data.subs
        body = {
            "contractData": {
                "contractCertificate": encode(data.certificate),
                "contractSubCa2Certificate": encode(sub2),
                "contractSubCa1Certificate": encode(sub1),
                "contractSignatureEncryptedPrivateKey": encode(data.wrapped),
                "dHpublickey": encode(data.dh_point),
            },
            "pcid": car.pcid,
            "xsdMsgDefNamespace": ISO2,
        }
        path = "/v1/cps/contractData/signed"
        return Call("PUT", path, "MO_EXTERNAL_PKI", json.dumps(body).encode())

    def post(self, car: Car) -> Call:
        """POST signedContractData: the vehicle's request, through a charge point operator."""
        name = "CertificateInstallationReq"
        installation = messages.certificate_installation_req("id1", car.leaf, [self._v2g])
        signed = signature.sign([("id1", name, installation)], raw_signer(car.key))
        raw = exi.encode(messages.envelope(bytes(range(1, 9)), name, installation, signed))
        body = {"certificateInstallationReq": encode(raw), "xsdMsgDefNamespace": ISO2}
        return Call("POST", "/v1/ccp/signedContractData", "CPO", json.dumps(body).encode())


def percentile(sent: Sequence[dict[str, Any]], share: float) -> float:
    """A percentile of all latencies, in milliseconds."""
    latencies: list[float] = sorted(chain.from_iterable(report["latencies"] for report in sent))
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))]


def rate(sent: dict[str, Any]) -> float:
    """The requests a second in a report of `opcp_load.py`."""
    return float(sent["rate"])
