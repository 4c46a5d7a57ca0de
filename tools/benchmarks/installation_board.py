"""Installs the answers 0.exi, 1.exi, ... and prints the microseconds of each.

    micropython installation_board.py FOLDER MODULE LABEL NOW SESSION     < PIN

`installation.py` makes the answers, the token and the anchors, and starts this.
"""

import sys
import time


def read(path: str) -> "bytes | None":
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def main(folder: str, module: str, label: str, now: str, session: str) -> None:
    count = 0
    answers = []
    while True:
        answer = read(folder + "/" + str(count) + ".exi")
        if answer is None:
            break
        answers.append(answer)
        count += 1
    started = time.ticks_us()
    from evcc.contracts import Contracts
    from evcc.iso15118_2.installation import InstallationRequest, install
    from evcc.ports.files import Files
    from evcc.trust import Trust
    from evcc.vault import pkcs11

    vault = pkcs11.open(module, label, sys.stdin.readline().strip())
    files = Files(folder + "/car")
    trust, contracts = Trust(files, vault.verify), Contracts(files)
    for answer in answers:
        request = InstallationRequest.at_station(bytes.fromhex(session))
        install(answer, request, trust, contracts, vault, int(now))
        print(time.ticks_diff(time.ticks_us(), started))
        started = time.ticks_us()


main(*sys.argv[1:])
