"""This project beside EcoG's iso15118, in the same run: EXI, and a session with an installation.

EXI: the message of `exi.py`, by EcoG's codec in a warm Java process. The session: from the plug to
the authorization over TLS, with an installation. Ours is that of `sessions.py`, with every key in
a token and a contract from CCP over HTTP. EcoG's pair has its keys in files, and its station makes
the contract itself; its station is warm, its car's Java process is new, as for each of its
sessions; the time until that has started does not count.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import sessions
from evcc import exi
from exi import SIZE, median, response

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from fixtures import ecog as peer
from fixtures.ecog_ends import EcogCar, EcogPki, ecog_car, ecog_station
from fixtures.namespaces import plugged

WARM, ROUNDS = 200, 200
PAIRS, SESSIONS = 3, 30  # sessions of EcoG's pair, and of ours
NAMESPACE = "urn:iso:15118:2:2013:MsgDef"
MOST_OF_JAVA = 0.1  # EXI
MOST_OF_SESSION = 0.5
Row = dict[str, object]


def codec(package: peer.Ecog) -> list[Row]:
    """The rows of EXI: both codecs on the same message."""
    message = response()
    data = exi.encode(message)
    engine = peer.Exificient(package.python, package.schemas, java="")
    try:
        document = engine.own("decode", namespace=NAMESPACE, exi=data.hex(), rounds=WARM)["json"]
        engine.own("encode", namespace=NAMESPACE, json=document, rounds=WARM)
        decoded = engine.own("decode", namespace=NAMESPACE, exi=data.hex(), rounds=ROUNDS)
        encoded = engine.own("encode", namespace=NAMESPACE, json=document, rounds=ROUNDS)
    finally:
        engine.close()
    if bytes.fromhex(encoded["exi"]) != data:
        raise AssertionError("the two codecs disagree")
    ours = (median(lambda: exi.decode(data)), median(lambda: exi.encode(message)))
    rows: list[Row] = []
    for kind, own, theirs in zip(("decode", "encode"), ours, (decoded, encoded), strict=True):
        java = theirs["microseconds"]
        name = f"{kind} {SIZE:,} bytes, of EcoG's codec in a warm Java process"
        rows += [
            {"name": name, "value": own / java, "unit": "×", "budget": MOST_OF_JAVA},
            {"name": "  ours", "value": own, "unit": "µs"},
            {"name": "  EcoG's", "value": java, "unit": "µs"},
        ]
    return rows


def seconds(car: EcogCar) -> float:
    """The seconds of EcoG's session by its car's log, from the first SDP request to the
    authorization."""

    def when(text: str) -> datetime:
        line = next(line for line in car.log.splitlines() if text in line)
        return datetime.strptime(line.split(None, 1)[1][:23], "%Y-%m-%d %H:%M:%S,%f")

    ended = when("Entered state ChargeParameterDiscovery")
    return (ended - when("Sending SDPRequest")).total_seconds()


def pair(package: peer.Ecog, folder: Path) -> Iterator[float]:
    """The seconds of each session of EcoG's pair but the first, which warms its station."""
    pki = EcogPki(package, folder / "pki")
    with plugged() as cable, ecog_station(package, cable.station, pki.folder) as station:
        for number in range(PAIRS + 1):
            with ecog_car(package, cable.car, pki.folder, java="") as car:
                if car.wait():  # under load it misses its own time-outs
                    raise RuntimeError("EcoG's pair did not get through a session")
                if number:
                    yield seconds(car)
            station.wait_for("UDP server has been resumed", number + 1)


def session(package: peer.Ecog, folder: Path) -> list[Row]:
    """The rows of a session: EcoG's pair, and ours."""
    theirs = statistics.median(pair(package, folder)) * 1000
    with sessions.chain(folder) as whole:
        whole.session()
        ours = statistics.median(whole.session()[1] for _ in range(SESSIONS))
    name = "from plug to authorization, with an installation over TLS, of EcoG's pair"
    return [
        {"name": name, "value": ours / theirs, "unit": "×", "budget": MOST_OF_SESSION},
        {"name": "  ours", "value": ours, "unit": "ms"},
        {"name": "  EcoG's", "value": theirs, "unit": "ms"},
    ]


def bench() -> list[Row]:
    with sessions.in_memory() as folder:
        try:
            package = peer.installed(folder)
        except RuntimeError as error:
            return [{"name": str(error), "value": 0, "unit": ""}]
        rows = codec(package)
        try:
            return rows + session(package, folder)
        except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
            return [*rows, {"name": f"no session: {error}", "value": 0, "unit": ""}]
