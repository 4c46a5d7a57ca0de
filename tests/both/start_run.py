"""A module that drives its token by itself: it starts, and installs an answer if it gets one.

    INTERPRETER start_run.py MODULE LABEL OPTIONS STORE NOW SESSION     < PIN, answer in hex, or ""

It is there to be killed: see `tests/grounds.py`.
"""

import sys

from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, install
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import pkcs11


def main(arguments):
    module, label, options, store, now, session = arguments
    vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options)
    files = Files(store)
    trust, contracts = Trust(files, vault.verify), Contracts(files)
    contracts.recover(vault)
    answer = bytes.fromhex(sys.stdin.readline().strip())
    if answer:
        request = InstallationRequest.at_station(bytes.fromhex(session))
        install(answer, request, trust, contracts, vault, int(now))


if __name__ == "__main__":
    main(sys.argv[1:])
