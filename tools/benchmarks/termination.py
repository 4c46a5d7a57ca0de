"""An operator with 100,000 contracts leaves: all are deleted and revoked under a load of OCSP.

SQLite on this disk, `plugvault sandbox` with one process that answers and one worker. The
contracts are copies of a contract of this ecosystem, so that each has a certificate to revoke.
OCSP requests for these certificates arrive at random moments, before and during the work.
"""

import hashlib
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from evcc.check_digit import emaid_check_digit
from opcp_world import Call, Fleet, Server, multiply, percentile, serving
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import responder
from plugvault.pki.names import timestamp
from plugvault.store import tables

CONTRACTS = 100_000
PROVIDER, ROLE = "DEPVB", "MO_HUBJECT_PKI"
RATE, PART = 50.0, 150  # OCSP requests per second, and in one part
MOST_P99 = 50.0  # milliseconds
SERIAL = 1 << 64  # of copy i: this number plus i


def ask(server: Server, call: Call) -> bytes:
    """The body of the answer to a call. Raises: HTTPError."""
    request = Request(
        f"http://127.0.0.1:{server.port}{call.path}",
        call.body or None,
        {"Content-Type": call.media, "Authorization": f"Bearer {server.tokens[call.role]}"},
        method=call.method,
    )
    with urlopen(request) as answer:
        body: bytes = answer.read()
    return body


def fill(server: Server, fleet: Fleet) -> None:
    """Store a contract as an operator orders it, and its copies, each for another vehicle."""
    car = fleet.car(1)
    fleet.register(server.database, iter([fleet.record(car.pcid, car.leaf)]))
    emaid = f"{PROVIDER}C00000000"
    order = {
        "contractBegins": timestamp(fleet.now),
        "contractEnds": timestamp(fleet.now + 86_400 * 365),
        "emaid": emaid + emaid_check_digit(emaid),
        "pcid": car.pcid,
        "xsdMsgDefNamespace": ISO2,
    }
    body = json.dumps(order).encode()
    ask(server, Call("PUT", "/v1/cps/generate/signedContractData", ROLE, body))
    serial = "printf('1%016x', i)"
    vehicle = "printf('PVTC%013d', i)"
    changed = {
        "emaid": f"printf('{PROVIDER}C%08d', i)",
        "vehicle": vehicle,
        "pcid": vehicle,
        "serial": serial,
    }
    file = Path(server.database.removeprefix("sqlite:///"))
    multiply(file, tables.contracts, CONTRACTS - 1, changed)
    multiply(file, tables.statuses, CONTRACTS - 1, {"serial": serial})


def requests(fleet: Fleet) -> Iterator[list[Call]]:
    """Parts of a random walk through the certificates of the contracts."""
    authority, chance = fleet.hosted, random.Random(1)
    issuer = [
        hashlib.sha1(data, usedforsecurity=False).digest()
        for data in (
            authority.certificate.subject.public_bytes(),
            responder.public_bits(authority.key.public_key()),
        )
    ]
    while True:
        part = []
        for _ in range(PART):
            serial = SERIAL + chance.randrange(1, CONTRACTS)
            builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*issuer, serial, SHA1())
            body = builder.build().public_bytes(Encoding.DER)
            part.append(Call("POST", "/ocsp", ROLE, body, "application/ocsp-request"))
        yield part


def bench() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="pv-") as temporary, ExitStack() as stack:
        folder = Path(temporary) / "data"
        server = stack.enter_context(serving(folder))
        fleet = Fleet(folder, stack)
        fill(server, fleet)
        parts = requests(fleet)
        quiet = [server.send(part, RATE) for part in itertools.islice(parts, 3)]
        probe = next(parts)[0]
        check(server, probe, ocsp.OCSPCertStatus.GOOD)
        began = time.perf_counter()
        job = json.loads(ask(server, Call("POST", f"/v1/ccp/terminate/{PROVIDER}", "ADMIN")))
        where = f"/v1/ccp/terminate/{PROVIDER}/{job['jobId']}"
        busy = []
        while job["state"] != "done":
            busy.append(server.send(next(parts), RATE))
            job = json.loads(ask(server, Call("GET", where, "ADMIN")))
        seconds = time.perf_counter() - began
        check(server, probe, ocsp.OCSPCertStatus.REVOKED)
    if job["contractsEnded"] != CONTRACTS:
        raise RuntimeError(f"{job['contractsEnded']} contracts ended")
    return [
        {"name": "100,000 contracts deleted and revoked", "value": seconds, "unit": "s"},
        {"name": "  contracts", "value": CONTRACTS / seconds, "unit": "/s"},
        {"name": "  OCSP p99 before", "value": percentile(quiet, 0.99), "unit": "ms"},
        {"name": "  OCSP p50 meanwhile", "value": percentile(busy, 0.5), "unit": "ms"},
        {
            "name": "  OCSP p99 meanwhile",
            "value": percentile(busy, 0.99),
            "unit": "ms",
            "budget": MOST_P99,
            "note": f"{RATE:.0f} requests a second",
        },
    ]


def check(server: Server, call: Call, status: ocsp.OCSPCertStatus) -> None:
    """Check the OCSP status in the answer to a call. Raises: RuntimeError."""
    answered_status = ocsp.load_der_ocsp_response(ask(server, call)).certificate_status
    if answered_status != status:
        raise RuntimeError(f"OCSP says {answered_status}")
