"""Contract keys opened and deleted in a row, by an interpreter that drives the token itself.

    INTERPRETER endurance_run.py COUNT CASE MODULE LABEL OPTIONS     < PIN

CASE (JSON, bytes in hex): an envelope, as `open_contract_key` takes it. Prints JSON, before
and after: bytes in the interpreter's heap and of the process, and objects in the token.
"""

import gc
import json
import sys

from evcc.vault import pkcs11

PAGE = 4096


def measured(vault):
    gc.collect()
    with open("/proc/self/statm", encoding="utf-8") as file:
        resident = int(file.read().split()[1]) * PAGE
    return [gc.mem_alloc(), resident, len(vault._backend.find([]))]


def main(arguments):
    count, case, module, label, options = arguments
    with open(case, encoding="utf-8") as file:
        case = json.load(file)
    for name in ("dh", "wrapped", "aad", "public"):
        case[name] = bytes.fromhex(case[name])
    vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options)

    def renew(times):
        for _ in range(times):
            key = vault.open_contract_key(
                case["scheme"], case["dh"], case["wrapped"], case["aad"], case["public"]
            )
            vault.delete(key)

    renew(20 + int(count) // 30)  # a database's cache is full then
    before = measured(vault)
    renew(int(count))
    print(json.dumps([before, measured(vault)]))


if __name__ == "__main__":
    main(sys.argv[1:])
