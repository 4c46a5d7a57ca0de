"""A car in a process of its own, which may be killed at any moment: a new one for each job.

    python tests/grounds.py < JSON lines

The first line is the car ("module", "conf", "options", "label", "pin", "socket", "store"; a
socket means that the vault is a service); each further line is a job, with the answer to install
("response"):

    {"do": "install", "before": 7, "victims": [0]}  start, and install the answer: see `tracing`
    {"do": "start", "before": 7, "victims": [0]}    only start
        for both: "by": {"command": [...], "env": {...}}, an interpreter that does it in its place
    {"do": "race", "after": 0.01, "victims": [0]}   start and install, killed after so many seconds
    {"do": "look"}                                  start, and report the state

Every job forks a process that has everything imported and nothing open. It is answered by a line:
"calls" and "code" of an installation, the fields of `look`, or {"died": code}.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import tracing
from evcc import x509
from evcc.contracts import Contracts
from evcc.errors import EvccError
from evcc.iso15118_2.installation import InstallationRequest, install
from evcc.ports import unix
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import cryptoki as p11
from evcc.vault.service import connect
from plugvault.cryptoki.backend import open_vault
from world import NOW, SESSION_ID

DIGEST = bytes(range(32))


def vault(car: dict[str, Any]) -> Any:
    """The car's vault: a client of its service, or the token itself."""
    if car["socket"]:
        return connect(lambda: unix.connect(car["socket"]))
    return open_vault(car["module"], car["conf"] or None, car["label"], car["pin"], car["options"])


def start(car: dict[str, Any], keys: Any) -> tuple[Trust, Contracts, list[str]]:
    """Start in the order of `evcc.module`. Returns (trust, contracts, sentences for the log)."""
    files = Files(car["store"])
    trust = Trust(files, keys.verify)
    contracts = Contracts(files)
    return trust, contracts, contracts.recover(keys)


def starts(car: dict[str, Any]) -> None:
    start(car, vault(car))


def installs(car: dict[str, Any]) -> None:
    keys = vault(car)
    trust, contracts, _ = start(car, keys)
    request = InstallationRequest.at_station(SESSION_ID)
    install(bytes.fromhex(car["response"]), request, trust, contracts, keys, NOW)


def elsewhere(car: dict[str, Any], by: dict[str, Any], answer: str) -> None:
    """Replace this process by tests/both/start_run.py on another interpreter."""
    reader, writer = os.pipe()
    os.write(writer, f"{car['pin']}\n{answer}\n".encode())
    os.close(writer)
    os.dup2(reader, 0)
    what = [car["module"], car["label"], car["options"], car["store"], str(NOW), SESSION_ID.hex()]
    os.execve(by["command"][0], [*by["command"], *what], by["env"])


def look(car: dict[str, Any]) -> dict[str, Any]:
    """The findings and words of a start; `again`: what the next one says; of each contract: EMAID,
    serial number of the certificate, whether it is lost, whether it signs for its certificate;
    `keys`: the vault's, "" for what has no name; without that of an installation that ended
    between its chain and its index, which stays until the maker has it destroyed."""
    try:
        keys = vault(car)
        _, contracts, found = start(car, keys)
        if discard_cut_off(contracts, car, keys):
            start(car, keys)
        _, again, later = start(car, keys)
    except EvccError as error:
        return {"error": str(error)}
    assert [c.key for c in contracts.all()] == [c.key for c in again.all()]
    return {
        "found": found,
        "again": later,
        "contracts": [contract(c, contracts, keys) for c in contracts.all()],
        "keys": sorted(key.hex() for key in dict(keys.keys())),
        "objects": objects(keys),
        "files": sorted(one.name for one in Path(car["store"]).iterdir()),
    }


def discard_cut_off(contracts: Contracts, car: dict[str, Any], keys: Any) -> bool:
    """Destroy the key of such an installation. Returns whether there was one."""
    stored = [one.name for one in Path(car["store"]).iterdir()]
    contracts.unnamed = [key for key in contracts.unnamed if f"chain-{key.hex()}" in stored]
    cut_off = bool(contracts.unnamed)
    contracts.discard_unnamed(keys)
    return cut_off


def contract(one: Any, contracts: Contracts, keys: Any) -> list[Any]:
    """[EMAID, serial number, whether it is lost, whether it signs, or the error's text]."""
    try:
        leaf = x509.parse(contracts.chain(one.emaid)[0])
        signs = keys.verify(leaf.point, DIGEST, keys.sign(one.key, DIGEST))
    except EvccError as error:
        return [one.emaid, 0, one.lost, str(error)]
    return [one.emaid, leaf.serial, one.lost, signs]


def objects(keys: Any) -> int:
    """The number of key objects, public and private, of all owners; 0 where a service hides it."""
    calls = getattr(keys, "_backend", None)
    kinds = (p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY)
    template = [[(p11.CKA_CLASS, kind), (p11.CKA_KEY_TYPE, p11.CKK_EC)] for kind in kinds]
    return sum(len(calls.find(one)) for one in template) if calls else 0


def told(car: dict[str, Any]) -> dict[str, Any]:
    """`look` in a process of its own, which the library may end: see {"died": code}."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.write(writer, json.dumps(look(car)).encode())
            code = 0
        except Exception:  # noqa: BLE001 - whatever it is, it is to be seen
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"died": code} if code else json.loads(text)


def race(car: dict[str, Any], after: float, victims: list[int]) -> dict[str, Any]:
    """Install in a child that is killed with the other `victims` after `after` seconds."""
    child = os.fork()
    if not child:
        code = 1
        try:
            installs(car)
            code = 0
        except EvccError:
            pass
        finally:
            os._exit(code)
    time.sleep(after)
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim or child, signal.SIGKILL)
    return {"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}


def work(car: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Carry out one job. Returns its answer."""
    kind = job.pop("do")
    car["response"] = job.pop("response", "")
    if kind == "look":
        return told(car)
    if kind == "race":
        return race(car, **job)
    folder = Path(car["store"]).parent
    if by := job.pop("by", None):
        answer = car["response"] if kind == "install" else ""
        child = tracing.fork(lambda: elsewhere(car, by, answer))
    else:
        child = tracing.fork(lambda: (starts if kind == "start" else installs)(car))
    calls, code = tracing.follow(child, folder, **job)
    return {"calls": calls, "code": code}


def main() -> None:
    car = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        print(json.dumps(work(car, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
