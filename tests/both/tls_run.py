"""TLS connections on one interpreter, to stations that are accepted and to those that are refused.

    INTERPRETER tls_run.py CASES [LIBRARY]

CASES (JSON, bytes in hex): "roots" [DER], and "cases": each with "name", "port", "now" (or null),
"needs_ocsp", "limit_ms", "revoked" [name of a certificate: see `evcc.revocation`]. Prints a line
of JSON for each case: {"name", "reason" and "detail" of its TlsError or null, "suite",
"findings"}.
`tests/attacks/test_tls.py` makes them and runs this.
"""

import json
import sys

from evcc import p256, tls, x509
from evcc.ports import clock, tcp
from evcc.revocation import NEVER, Revocation
from evcc.tls import TlsError
from evcc.tls.peer import Peer
from memory import MemoryFiles

HELLO = b"a message of the session"


def connect(client, port, limit_ms):
    """The answer of an echo, through TLS."""
    stream = tcp.connect("::1", port)
    try:
        return talk(client, stream, limit_ms)
    finally:
        stream.close()
        client.free()


def talk(client, stream, limit_ms):
    end = clock.ticks_ms() + limit_ms
    sent, answer = False, b""
    while answer != HELLO and clock.ticks_ms() < end:
        try:
            if not sent and client.handshake():
                client.write(HELLO)
                sent = True
            if sent:
                answer += client.read()
        finally:
            data = client.outgoing()
            if data:
                stream.write(data)
        data = stream.read(999, 20)
        if data:
            client.incoming(data)
    client.close()
    stream.write(client.outgoing())
    return answer


def run(case, roots, library):
    revocation = Revocation(MemoryFiles())
    if case["revoked"]:
        revocation.install(1, NEVER, [bytes.fromhex(name) for name in case["revoked"]])
    peer = Peer(roots, p256.verify, case["now"], revocation, case["needs_ocsp"])
    result = {"name": case["name"], "reason": None, "detail": None, "suite": "", "findings": ""}
    try:
        client = tls.client(peer, library)
        if connect(client, case["port"], case["limit_ms"]) == HELLO:
            result["suite"] = client.suite
            result["findings"] = peer.findings()
        else:
            result["reason"] = "silence"
    except TlsError as error:
        result["reason"], result["detail"] = error.reason, error.detail
    except OSError as error:
        result["reason"], result["detail"] = "port", str(error)
    print(json.dumps(result))


def main(arguments):
    with open(arguments[0], encoding="utf-8") as file:
        cases = json.load(file)
    library = arguments[1] if len(arguments) > 1 else ""
    roots = [x509.parse(bytes.fromhex(root)) for root in cases["roots"]]
    for case in cases["cases"]:
        run(case, roots, library)


main(sys.argv[1:])
