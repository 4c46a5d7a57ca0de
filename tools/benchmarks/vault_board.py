"""Prints the microseconds of a signature, a verification, an ECDH secret that is made and
destroyed, and an opened and deleted contract key.

    micropython vault_board.py MODULE LABEL OPTIONS DH WRAPPED PUBLIC     < PIN

`vault.py` makes the token and the envelope, and starts this.
"""

import sys
import time

from evcc.vault import PROVISIONING, pkcs11
from evcc.vault.cryptoki import CKM_ECDH1_DERIVE, secret_template

DIGEST = bytes(range(32))


def microseconds(work, count: int) -> int:
    """The median of `count` calls in µs."""
    times = []
    for _ in range(count):
        started = time.ticks_us()
        work()
        times.append(time.ticks_diff(time.ticks_us(), started))
    return sorted(times)[count // 2]


def main(module: str, label: str, options: str, dh: str, wrapped: str, public: str) -> None:
    vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options)
    point = vault.public(PROVISIONING)
    signature = vault.sign(PROVISIONING, DIGEST)
    case = ("iso2", bytes.fromhex(dh), bytes.fromhex(wrapped), b"", bytes.fromhex(public))
    calls, static = vault._backend, vault._pair(PROVISIONING)[0]
    secret = secret_template(32)
    print(
        microseconds(lambda: vault.sign(PROVISIONING, DIGEST), 300),
        microseconds(lambda: vault.verify(point, DIGEST, signature), 300),
        microseconds(
            lambda: calls.destroy(calls.derive(CKM_ECDH1_DERIVE, static, case[1], secret)), 300
        ),
        microseconds(lambda: vault.delete(vault.open_contract_key(*case)), 20),
    )


main(*sys.argv[1:])
