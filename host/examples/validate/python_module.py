"""A module in Python (`lines:`), evcc with its keys in a token: LIBRARY LABEL PIN_FILE STORE."""

import base64
import json
import sys
from pathlib import Path

from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, RejectedError, install
from evcc.ports.files import Files
from evcc.trust import Trust
from plugvault.tokens.location import TokenLocation

library, label, pin_file, store = sys.argv[1:]
vault = TokenLocation(Path(library), label).open(
    Path(pin_file).read_text(encoding="utf-8").strip()
)
files = Files(store)
trust, contracts = Trust(files, vault.verify), Contracts(files)
for request in map(json.loads, sys.stdin):
    match request["op"]:
        case "hello":
            answer = {"v": 1, "module": "evcc", "can": ["clock", "trust", "sign"]}
        case "begin":
            at, session, answer = request["at"], request["session"], {}
            anchors = [(root["kind"], base64.b64decode(root["der"])) for root in request["trust"]]
            trust.install("EU", anchors, at)
            asked = session and InstallationRequest(bytes.fromhex(session), request["emaid"])
        case "install":
            message = base64.b64decode(request["message"])
            try:
                contract = install(message, asked, trust, contracts, vault, at)
                answer = {"verdict": "accepted", "emaid": contract.emaid}
            except RejectedError as error:
                answer = {"verdict": "refused", "stage": error.reason, "reason": str(error)}
        case "sign":
            key = contracts.get(request["emaid"].upper()).key
            answer = {"signature": vault.sign(key, bytes.fromhex(request["digest"])).hex()}
    print(json.dumps(answer), flush=True)
