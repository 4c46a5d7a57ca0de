"""Installations on one interpreter, with a real token: accepted ones and rejected ones.

    INTERPRETER installation_run.py CASES STORE pkcs11 MODULE LABEL     < PIN
    INTERPRETER installation_run.py CASES STORE service SOCKET

CASES (JSON, bytes in hex): "now", "session", "anchors" [[kind, DER]], and "cases": in order, each
with "name", "response", and "reason" and "cause" of its rejection (both null: it installs).
`tests/attacks/test_on_every_runtime.py` makes them and runs this.
"""

import json
import sys

from evcc.contracts import INDEX, Contracts
from evcc.iso15118_2.installation import InstallationRequest, RejectedError, install
from evcc.ports.files import Files
from evcc.trust import Trust

DIGEST = bytes(range(32))


def open_vault(kind, *where):
    if kind == "pkcs11":
        from evcc.vault import pkcs11

        return pkcs11.open(*where, sys.stdin.readline().strip())
    from evcc.ports import unix
    from evcc.vault import service

    return service.connect(lambda: unix.connect(*where))


def stored(files, vault):
    names = [name for name in files.names() if name != INDEX]  # it says what was tried
    contracts = [(c.emaid, c.key, c.active) for c in Contracts(files).all()]
    return [(name, files.read(name)) for name in names], contracts, sorted(vault.keys())


def run(case, files, trust, contracts, vault, cases):
    request = InstallationRequest.at_station(bytes.fromhex(cases["session"]))
    response = bytes.fromhex(case["response"])
    before = stored(files, vault)
    try:
        contract = install(response, request, trust, contracts, vault, cases["now"])
    except RejectedError as e:
        seen = [e.reason, getattr(e.cause, "reason", None)]
        assert seen == [case["reason"], case["cause"]], seen
        assert stored(files, vault) == before
        return
    assert case["reason"] is None, "installed"
    point = dict(vault.keys())[contract.key]
    assert vault.verify(point, DIGEST, vault.sign(contract.key, DIGEST))
    again = Contracts(files)
    assert again.get(contract.emaid).key == contract.key
    assert again.recover(vault) == []


def main(arguments):
    with open(arguments[0], encoding="utf-8") as file:
        cases = json.load(file)
    vault = open_vault(*arguments[2:])
    files = Files(arguments[1])
    trust = Trust(files, vault.verify)
    anchors = [(kind, bytes.fromhex(der)) for kind, der in cases["anchors"]]
    trust.install("EU", anchors, cases["now"])
    contracts = Contracts(files)
    for case in cases["cases"]:
        run(case, files, trust, contracts, vault, cases)
        print("ok " + case["name"])
    vault.close()


if __name__ == "__main__":
    main(sys.argv[1:])
