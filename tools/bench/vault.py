"""The vault: through `ffi` on MicroPython, and in process beside bare python-pkcs11.

Signing is the token's arithmetic. Opening a contract key is mostly SoftHSM writing the two objects
of the key to its files, some thirty times each; both sides of a ratio do that. The store is in
memory where there is such a place, so that it is not the disk that is measured.
"""

import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIGNATURES, OPENINGS = 300, 20
DIGEST = bytes(range(32))


def microseconds(work: Callable[[], object], count: int) -> float:
    """Of one call: the median, for these machines are shared."""
    turns = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        turns.append((time.perf_counter() - started) * 1e6)
    return statistics.median(turns)


def bare_opening(vault: Any, arguments: dict[str, Any]) -> Callable[[], None]:
    """The token calls of `open_contract_key` and `delete` on python-pkcs11, and nothing else."""
    import pkcs11
    from pkcs11 import KDF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

    from evcc.vault import PROVISIONING

    session = vault._calls._session
    static = vault._whole(PROVISIONING)[0]
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


def through_ffi(token: Any, arguments: dict[str, Any]) -> tuple[float, float, float] | None:
    """(signature, verification, opening) in µs on MicroPython with ffi, where there is one."""
    from plugvault import runtimes

    runtime = runtimes.get("debian")
    if runtime is None:
        return None
    case = [arguments[name].hex() for name in ("dh", "wrapped", "public")]
    ended = subprocess.run(
        [*runtime.argv, HERE / "vault_board.py", token.module, token.label, *case],
        env={**runtime.env(), **token.store.env()},
        input=token.pin,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    sign, verify, opening = map(float, ended.stdout.split())
    return sign, verify, opening


def rows(token: Any) -> list[dict[str, Any]]:
    from pkcs11 import Mechanism

    import envelopes
    from evcc.vault import PROVISIONING

    vault = token.open()
    point = vault.generate_provisioning_key()
    case = envelopes.envelope(point, envelopes.KNOWN_KEY)
    static = vault._whole(PROVISIONING)[0]

    def opening(of: Any) -> Callable[[], None]:
        return lambda: of.delete(of.open_contract_key(*case.values()))

    bare_sign = microseconds(lambda: static.sign(DIGEST, mechanism=Mechanism.ECDSA), SIGNATURES)
    sign = microseconds(lambda: vault.sign(PROVISIONING, DIGEST), SIGNATURES)
    bare_open = microseconds(bare_opening(vault, case), OPENINGS)
    opened = microseconds(opening(vault), OPENINGS)
    vault.close()
    board = through_ffi(token, case)
    found = [
        {"name": "sign, python-pkcs11 alone", "value": bare_sign, "unit": "µs"},
        {"name": "sign, vault in process", "value": sign, "unit": "µs"},
        {"name": "in process, of bare calls", "value": bare_sign / sign, "unit": "×"},
        {"name": "open and delete, python-pkcs11 alone", "value": bare_open, "unit": "µs"},
        {"name": "open and delete, vault in process", "value": opened, "unit": "µs"},
        {"name": "in process, of bare calls", "value": bare_open / opened, "unit": "×"},
    ]
    names = ("sign", "verify", "open and delete")
    budgets = ({"budget": 200}, {}, {"budget": 100_000})
    for name, value, budget in zip(names, board or (), budgets, strict=bool(board)):
        found.append(
            {"name": f"{name}, ffi on MicroPython", "value": value, "unit": "µs", **budget}
        )
    return found


def bench() -> list[dict[str, Any]]:
    sys.path.append(str(HERE.parents[1] / "tests"))
    from fixtures.tokens import CarToken

    memory = Path("/dev/shm")  # the store's files, not a secret's copy
    with tempfile.TemporaryDirectory(
        prefix="pv-", dir=memory if memory.is_dir() else None
    ) as folder:
        return rows(CarToken(Path(folder)))
