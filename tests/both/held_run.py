"""A process whose memory is searched: it opens a contract key in a token, and then waits.

    INTERPRETER held_run.py MODULE LABEL OPTIONS LEVEL CASE     < PIN, and a line to end it

LEVEL: of custody, and no better. CASE (JSON, bytes in hex): the arguments of `open_contract_key`.
Prints the custody of the key.
"""

import json
import sys

from evcc.vault import custody, pkcs11


def opened(vault, file):
    """The custody of the opened key. A function, so that its locals leave the stack."""
    with open(file, encoding="utf-8") as text:
        case = json.load(text)
    for name in ("dh", "wrapped", "aad", "public"):
        case[name] = bytes.fromhex(case[name])
    key = vault.open_contract_key(
        case["scheme"], case["dh"], case["wrapped"], case["aad"], case["public"]
    )
    return vault.custody(key)


def main(arguments):
    module, label, options, level, file = arguments
    for cipher, recipes in custody.RECIPES.items():
        custody.RECIPES[cipher] = tuple([row for row in recipes if row[0] == level])
    vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options)
    print(opened(vault, file))
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1:])
