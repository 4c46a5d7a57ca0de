"""A whole installation, decode to commit, beside the bare cost of its own cryptography.

CPython: the vault in this process on SoftHSM; the disk is left out (the store is in memory and
`os.fsync` does nothing here), and every installation replaces the last one, as a renewal does. The
bare side makes the same verifications with `cryptography` and the same token calls with
python-pkcs11, and nothing else. Both sides alternate, in one run. MicroPython: the same answers
through `ffi`, flushes included, timed by the module itself.
"""

import itertools
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answer import NOW, SESSION_ID, World, answers
from vault import bare_opening

HERE = Path(__file__).parent
ROUNDS = 40
MOST_RATIO, MOST_MICROPYTHON = 3.0, 100.0
MOST_CHECK = 0.1  # of an installation


class Clock:
    """Measures calls, in milliseconds. The median counts, because these machines are shared."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []

    def measure(self, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        self.milliseconds.append((time.perf_counter() - started) * 1000)

    def median(self) -> float:
        return statistics.median(self.milliseconds)


def bare(vault: Any, response: bytes, anchors: dict[str, bytes]) -> Callable[[], None]:
    """The cryptography of one installation: its verifications, and the vault's token calls."""
    from evcc import exi, x509
    from evcc.signature import signed_info_digest
    from plugvault.pki.verify import verify_p256

    message = exi.decode(response)["V2G_Message"]
    body = message["Body"]["CertificateInstallationRes"]
    signature = message["Header"]["Signature"]
    verified = []
    for name, kind in (
        ("SAProvisioningCertificateChain", "V2G"),
        ("ContractSignatureCertChain", "MO"),
    ):
        element = body[name]
        ders = [element["Certificate"], *element["SubCertificates"]["Certificate"], anchors[kind]]
        path = [x509.parse(der) for der in ders]
        verified += [
            (above.point, below.tbs_digest, below.signature)
            for below, above in itertools.pairwise(path)
        ]
    cps = x509.parse(body["SAProvisioningCertificateChain"]["Certificate"]).point
    info = signed_info_digest(signature["SignedInfo"])
    verified.append((cps, info, signature["SignatureValue"]["value"]))
    verified.append(verified[-1])  # for the proof of possession of the contract key
    leaf = x509.parse(body["ContractSignatureCertChain"]["Certificate"]).point
    opening = bare_opening(vault, {"dh": body["DHpublickey"]["value"], "public": leaf})

    def work() -> None:
        for point, digest, value in verified:
            assert verify_p256(point, digest, value)
        opening()

    return work


def checked_envelope() -> Callable[[], None]:
    """The work of an installation on the table of envelopes, with room for one more."""
    from evcc.envelopes import OPENED, ROOM, Envelopes

    table = Envelopes()
    for _ in range(ROOM - 1):
        table.add(b"car", b"\4" + secrets.token_bytes(64), b"wrapped", secrets.token_bytes(16))
    point = b"\4" + secrets.token_bytes(64)

    def work() -> None:
        table.check(b"car", point, b"wrapped", b"certificate")
        table.add(b"car", point, b"wrapped", b"certificate")
        table.settle(point, OPENED)

    return work


def on_cpython(folder: Path, world: Any) -> list[dict[str, object]]:
    """The rows of CPython. world: `World`."""
    from evcc.contracts import Contracts
    from evcc.iso15118_2.installation import InstallationRequest, install
    from evcc.ports.files import Files
    from evcc.trust import Trust
    from plugvault.cryptoki.backend import open_vault
    from plugvault.tokens import TokenStore

    store, pin = TokenStore(folder / "hsm"), secrets.token_hex(8)
    for label in ("car", "bare"):
        store.init_token(label, pin, secrets.token_hex(8))
    vault = open_vault(store.module, store.conf, "car", pin)
    bare_vault = open_vault(store.module, store.conf, "bare", pin)
    bare_vault.generate_provisioning_key()
    files = Files(str(folder / "car"))
    trust, contracts = Trust(files, vault.verify), Contracts(files)
    trust.install("EU", world.anchors, NOW)
    installed, cryptography = Clock(), Clock()
    anchors = dict(world.anchors)
    responses = answers(world, vault.generate_provisioning_key(), ROUNDS + 1)

    def installs(response: bytes) -> Callable[[], object]:
        request = InstallationRequest.at_station(SESSION_ID)
        return lambda: install(response, request, trust, contracts, vault, NOW)

    flush, os.fsync = os.fsync, lambda descriptor: None
    check = Clock()
    try:
        installs(responses.pop(0))()
        for response in responses:
            installed.measure(installs(response))
            cryptography.measure(bare(bare_vault, response, anchors))
            check.measure(checked_envelope())
    finally:
        os.fsync = flush
        vault.close()
        bare_vault.close()
    return [
        {
            "name": f"installing {len(responses[0]):,} bytes, CPython, SoftHSM, of bare calls",
            "value": installed.median() / cryptography.median(),
            "unit": "×",
            "budget": MOST_RATIO,
        },
        {"name": "  all of it, decode to commit", "value": installed.median(), "unit": "ms"},
        {"name": "  its cryptography cryptography", "value": cryptography.median(), "unit": "ms"},
        {
            "name": "  the check of its envelope in a nearly full table, of all of it",
            "value": check.median() / installed.median(),
            "unit": "×",
            "budget": MOST_CHECK,
        },
    ]


def on_micropython(folder: Path, world: Any) -> list[dict[str, object]]:
    """The rows of MicroPython through `ffi`. Raises: RuntimeError where it is missing."""
    from evcc.ports.files import Files
    from evcc.trust import Trust
    from plugvault import runtimes
    from plugvault.cryptoki.backend import open_vault
    from plugvault.tokens import TokenStore

    runtime = runtimes.get("debian")
    if runtime is None:
        raise RuntimeError("no MicroPython with ffi here; `make` says why")
    store, pin = TokenStore(folder / "hsm"), secrets.token_hex(8)
    store.init_token("car", pin, secrets.token_hex(8))
    vault = open_vault(store.module, store.conf, "car", pin)
    point = vault.generate_provisioning_key()
    Trust(Files(str(folder / "car")), vault.verify).install("EU", world.anchors, NOW)
    vault.close()
    responses = answers(world, point, 11)
    for i, response in enumerate(responses):
        (folder / f"{i}.exi").write_bytes(response)
    arguments = [str(folder), str(store.module), "car", str(NOW), SESSION_ID.hex()]
    ended = subprocess.run(
        [*runtime.argv, str(HERE / "installation_board.py"), *arguments],
        env={**runtime.env(), **store.env()},
        input=pin + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(ended.stdout + ended.stderr)
    first, *later = [int(line) / 1000 for line in ended.stdout.split()]
    return [
        {
            "name": f"installing {len(responses[0]):,} bytes, MicroPython with ffi",
            "value": statistics.median(later),
            "unit": "ms",
            "budget": MOST_MICROPYTHON,
        },
        {"name": "  the first, which also loads the code", "value": first, "unit": "ms"},
    ]


def bench() -> list[dict[str, object]]:
    world = World()
    # SoftHSM writes each object thirty times: on a disk, both sides would mostly wait for it.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    rows: list[dict[str, object]] = []
    for part in (on_cpython, on_micropython):
        with tempfile.TemporaryDirectory(prefix="pv-", dir=memory) as name:
            rows += part(Path(name), world)
    return rows
