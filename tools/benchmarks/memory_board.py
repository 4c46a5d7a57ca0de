"""One installation on an interpreter as small as a board; `memory.py` starts it and says how.

    micropython -X heapsize=160k memory_board.py FOLDER SOCKET NOW

FOLDER has `response.exi`, `session`, and a `car` folder whose trust anchors are installed.
Prints one line of JSON: bytes of heap in use once the code is loaded, and after the contract is
committed and the rest is collected.
"""

import gc
import json
import sys

import boot  # sets the threshold of the collector, without which the heap fragments
from evcc.contracts import Contracts
from evcc.exi import iso2, xmldsig
from evcc.iso15118_2.installation import InstallationRequest, install
from evcc.ports import unix
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import service

USED = boot, iso2, xmldsig  # the tables count as code, which the first message would load


def used() -> int:
    """Bytes of heap in use, after a collection."""
    gc.collect()
    return gc.mem_alloc()


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def main(folder: str, socket: str, now: str) -> None:
    code = used()
    vault = service.connect(lambda: unix.connect(socket))
    files = Files(folder + "/car")
    contracts = Contracts(files)
    trust = Trust(files, vault.verify)
    ready = used()
    request = InstallationRequest.at_station(read(folder + "/session"))
    contract = install(read(folder + "/response.exi"), request, trust, contracts, vault, int(now))
    after = used()
    vault.delete(contract.key)
    vault.close()
    print(json.dumps({"emaid": contract.emaid, "code": code, "ready": ready, "after": after}))


main(*sys.argv[1:])
