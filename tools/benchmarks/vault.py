"""The vault: through `ffi` on MicroPython, and in process beside bare python-pkcs11.

Signing is the token's arithmetic. Opening a contract key is mostly the token writing the two
objects of the key to its files. "Alone" opens as PKCS#11 is commonly used, by C_CreateObject; the
vault has SoftHSM copy a key of the session, which writes less, and gives more custody on NSS. The
two sides are measured in turns. The store is in memory where there is such a place, so that it is
not the disk that is measured.

The budgets through `ffi` are absolute, and of a machine where `openssl speed` signs in 13 µs: what
it needs here stands beside them, for a slower machine misses them.
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
TURNS, SIGNATURES, OPENINGS = 10, 100, 5
DIGEST = bytes(range(32))


def microseconds(work: Callable[[], object], count: int) -> float:
    """Of one call: the median, for these machines are shared."""
    turns = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        turns.append((time.perf_counter() - started) * 1e6)
    return statistics.median(turns)


def in_turns(works: list[tuple[Callable[[], object], int]]) -> list[float]:
    """µs of each work, (work, calls in a turn): the median of its quietest turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(TURNS):
        for taken, (work, count) in zip(times, works, strict=True):
            taken.append(microseconds(work, count))
    return [min(taken) for taken in times]


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
    place = token.place
    case = [arguments[name].hex() for name in ("dh", "wrapped", "public")]
    ended = subprocess.run(
        [*runtime.argv, HERE / "vault_board.py", place.module, place.label, place.options, *case],
        env={**runtime.env(), **place.env()},
        input=token.pin,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return list(map(float, ended.stdout.split()))


@functools.cache
def openssl_speed() -> tuple[float, float] | None:
    """µs of `openssl speed` on P-256: of a signature, and of what the opening of a contract key
    calculates, which is an ECDH, and a signature and its verification to prove the key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    told = subprocess.run(
        [openssl, "speed", "-mr", "-seconds", "1", "ecdsap256", "ecdhp256"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    by_kind = {line[:3]: line.split(":")[3:] for line in told.splitlines()}
    sign, verify = (1e6 / float(a_second) for a_second in by_kind["+F4"])
    return sign, 1e6 / float(by_kind["+F5"][0]) + sign + verify


def of_openssl(sign: float, opening: float) -> list[dict[str, Any]]:
    """Two rows: what `openssl speed` needs, of µs of a signature and of an opening."""
    speed = openssl_speed()
    return [
        {"name": f"{name}, of openssl speed", "value": alone / taken, "unit": "×"}
        for name, alone, taken in zip(
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
    bare_sign, sign, bare_open, opened = in_turns(
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
    found: list[dict[str, Any]] = [
        {"name": "sign, python-pkcs11 alone", "value": bare_sign, "unit": "µs"},
        {"name": "sign, vault in process", "value": sign, "unit": "µs"},
        {"name": "in process, of bare calls", "value": bare_sign / sign, "unit": "×", **least},
        {"name": "open and delete, python-pkcs11 alone", "value": bare_open, "unit": "µs"},
        {"name": f"open and delete, {level}, vault in process", "value": opened, "unit": "µs"},
        {"name": "in process, of bare calls", "value": bare_open / opened, "unit": "×", **least},
    ]
    found += of_openssl(sign, opened)
    if speed := openssl_speed():
        found.append({"name": "sign, openssl speed", "value": speed[0], "unit": "µs"})
    names = ("sign", "verify", "ECDH", f"open and delete, {level}")
    for name, value in zip(names, board or (), strict=bool(board)):
        found.append({"name": f"{name}, ffi on MicroPython", "value": value, "unit": "µs"})
    return [{**row, "name": f"{token.provider.name}: {row['name']}"} for row in found]


def bench() -> list[dict[str, Any]]:
    sys.path.append(str(HERE.parents[1] / "tests"))
    from fixtures.tokens import CarToken
    from plugvault.tokens.providers import NSS, SOFTHSM

    budgets = {"sign": 60, "ECDH": 150}
    memory = Path("/dev/shm")  # the store's files, not a secret's copy
    found = []
    for provider in (SOFTHSM, NSS):
        with tempfile.TemporaryDirectory(
            prefix="pv-", dir=memory if memory.is_dir() else None
        ) as folder:
            found += rows(CarToken(Path(folder), provider))
    for row in found:
        what, _, how = row["name"].partition(", ffi")
        if how and what.startswith("softhsm: ") and what[9:] in budgets:
            row["budget"] = budgets[what[9:]]
    return found
