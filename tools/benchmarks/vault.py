"""The vault: through `ffi` on MicroPython, and in process beside bare python-pkcs11.

Signing is the token's arithmetic. Opening a contract key is mostly the token writing the two
objects of the key to its files. "Alone" opens as PKCS#11 is commonly used, by C_CreateObject; the
vault has SoftHSM copy a key of the session, which writes less, and gives more custody on NSS. The
measurement alternates between the two sides. The store is in memory where the machine has such a
folder, to leave the disk out.

The budgets through `ffi` are absolute, for a machine where `openssl speed` signs in 13 µs. The
time of `openssl speed` on this machine stands beside them: a slower machine misses the budgets.
"""

import functools
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROUNDS, SIGNATURES, OPENINGS = 10, 100, 5
DIGEST = bytes(range(32))


def microseconds(work: Callable[[], object], count: int) -> float:
    """µs of one call: the median, because these machines are shared."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times)


def alternately(works: list[tuple[Callable[[], object], int]]) -> list[float]:
    """µs of each work, (work, calls in a round): the median of its quietest round."""
    rounds: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for medians, (work, count) in zip(rounds, works, strict=True):
            medians.append(microseconds(work, count))
    return [min(medians) for medians in rounds]


def bare_opening(vault: Any, arguments: dict[str, Any]) -> Callable[[], None]:
    """The token calls of `open_contract_key` and `delete` on python-pkcs11, and nothing else."""
    import pkcs11
    from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

    from evcc.vault import PROVISIONING

    session = vault._backend._session
    static = vault._pair(PROVISIONING)[0]
    curve = pkcs11.util.ec.encode_named_curve_parameters("1.2.840.10045.3.1.7")
    no = {Attribute.DECRYPT: False, Attribute.UNWRAP: False, Attribute.SIGN_RECOVER: False}

    def work() -> None:
        key_id = session.generate_random(128)
        common = {
            Attribute.TOKEN: True,
            Attribute.KEY_TYPE: KeyType.EC,
            Attribute.EC_PARAMS: curve,
            Attribute.ID: key_id,
            Attribute.LABEL: "bare",
        }
        z = static.derive_key(
            KeyType.GENERIC_SECRET,
            256,
            capabilities=MechanismFlag(0),
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(KDF.NULL, None, arguments["dh"]),
            template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )
        session.digest(iter((b"\0\0\0\1", z, b"\1UV")), mechanism=Mechanism.SHA256)
        z.destroy()
        public = session.create_object(
            {
                **common,
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.PRIVATE: False,
                Attribute.VERIFY: True,
                Attribute.EC_POINT: b"\x04\x41" + arguments["public"],
            }
        )
        private = session.create_object(
            {
                **common,
                **no,
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.VALUE: secrets.token_bytes(32),
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.MODIFIABLE: False,
                Attribute.SIGN: True,
                Attribute.DERIVE: False,
            }
        )
        private.sign(DIGEST, mechanism=Mechanism.ECDSA)
        private.destroy()
        public.destroy()

    return work


def through_ffi(token: Any, arguments: dict[str, Any]) -> list[float] | None:
    """Signature, verification, ECDH, opening in µs on MicroPython with ffi, if there is one."""
    from plugvault import runtimes

    runtime = runtimes.get("debian")
    if runtime is None:
        return None
    location = token.location
    case = [arguments[name].hex() for name in ("dh", "wrapped", "public")]
    ended = subprocess.run(
        [
            *runtime.argv,
            HERE / "vault_board.py",
            location.module,
            location.label,
            location.options,
            *case,
        ],
        env={**runtime.env(), **location.env()},
        input=token.pin,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return list(map(float, ended.stdout.split()))


@functools.cache
def openssl_speed() -> tuple[float, float] | None:
    """µs of `openssl speed` on P-256: of a signature, and of the arithmetic of an opened contract
    key (an ECDH, then a signature and its verification to prove the key)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    report = subprocess.run(
        [openssl, "speed", "-mr", "-seconds", "1", "ecdsap256", "ecdhp256"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    by_kind = {line[:3]: line.split(":")[3:] for line in report.splitlines()}
    sign, verify = (1e6 / float(a_second) for a_second in by_kind["+F4"])
    return sign, 1e6 / float(by_kind["+F5"][0]) + sign + verify


def of_openssl(sign: float, opening: float) -> list[dict[str, Any]]:
    """Two rows: the time of `openssl speed`, divided by that of a signature and of an opening."""
    speed = openssl_speed()
    return [
        {"name": f"{name}, of openssl speed", "value": alone / duration, "unit": "×"}
        for name, alone, duration in zip(
            ("sign", "open and delete"), speed or (), (sign, opening), strict=bool(speed)
        )
    ]


def rows(token: Any) -> list[dict[str, Any]]:
    from pkcs11 import Mechanism

    import envelopes
    from evcc.vault import PROVISIONING

    vault = token.open()
    point = vault.generate_provisioning_key()
    case = envelopes.envelope(point, envelopes.KNOWN_KEY)
    static = vault._pair(PROVISIONING)[0]
    key = vault.open_contract_key(*case.values())
    level = vault.custody(key)
    vault.delete(key)
    bare_sign, sign, bare_open, opened = alternately(
        [
            (lambda: static.sign(DIGEST, mechanism=Mechanism.ECDSA), SIGNATURES),
            (lambda: vault.sign(PROVISIONING, DIGEST), SIGNATURES),
            (bare_opening(vault, case), OPENINGS),
            (lambda: vault.delete(vault.open_contract_key(*case.values())), OPENINGS),
        ]
    )
    vault.close()
    board = through_ffi(token, case)
    least = {"at_least": 0.85}
    figures: list[dict[str, Any]] = [
        {"name": "sign, python-pkcs11 alone", "value": bare_sign, "unit": "µs"},
        {"name": "sign, vault in process", "value": sign, "unit": "µs"},
        {"name": "in process, of bare calls", "value": bare_sign / sign, "unit": "×", **least},
        {"name": "open and delete, python-pkcs11 alone", "value": bare_open, "unit": "µs"},
        {"name": f"open and delete, {level}, vault in process", "value": opened, "unit": "µs"},
        {"name": "in process, of bare calls", "value": bare_open / opened, "unit": "×", **least},
    ]
    figures += of_openssl(sign, opened)
    if speed := openssl_speed():
        figures.append({"name": "sign, openssl speed", "value": speed[0], "unit": "µs"})
    names = ("sign", "verify", "ECDH", f"open and delete, {level}")
    for name, value in zip(names, board or (), strict=bool(board)):
        figures.append({"name": f"{name}, ffi on MicroPython", "value": value, "unit": "µs"})
    return [{**row, "name": f"{token.provider.name}: {row['name']}"} for row in figures]


def bench() -> list[dict[str, Any]]:
    sys.path.append(str(HERE.parents[1] / "tests"))
    from fixtures.tokens import CarToken
    from plugvault.tokens.providers import NSS, SOFTHSM

    budgets = {"sign": 60, "ECDH": 150}
    memory = Path("/dev/shm")  # the token's files, no copy of a secret
    all_rows = []
    for provider in (SOFTHSM, NSS):
        with tempfile.TemporaryDirectory(
            prefix="pv-", dir=memory if memory.is_dir() else None
        ) as folder:
            all_rows += rows(CarToken(Path(folder), provider))
    for row in all_rows:
        operation, _, runtime = row["name"].partition(", ffi")
        if runtime and operation.startswith("softhsm: ") and operation[9:] in budgets:
            row["budget"] = budgets[operation[9:]]
    return all_rows
