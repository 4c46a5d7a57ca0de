#!/usr/bin/env python3
"""Make a SoftHSM token for development: `softhsm/make_token.py FOLDER LABEL`.

It asks for the PINs, or reads them as two lines from stdin (the user's, the security officer's).
The PINs are on no command line and in no file. Prints the line that sets SOFTHSM2_CONF, by which
other tools find the token.
"""

import argparse
import getpass
import shlex
import sys
from pathlib import Path

from plugvault.tokens import TokenStore, VaultError


def pins() -> tuple[str, str]:
    """(user PIN, security officer's PIN). Exits where stdin has another number of lines."""
    if sys.stdin.isatty():
        return getpass.getpass("user PIN: "), getpass.getpass("security officer's PIN: ")
    lines = sys.stdin.read().splitlines()
    if len(lines) != 2:
        sys.exit("stdin must have two lines: the user's PIN, the security officer's PIN")
    return lines[0], lines[1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a SoftHSM token for development.")
    parser.add_argument("folder", type=Path, help="the store; made when missing")
    parser.add_argument("label", help="the token's name, at most 32 bytes")
    arguments = parser.parse_args()
    try:
        store = TokenStore(arguments.folder)
        store.init_token(arguments.label, *pins())
    except (VaultError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"export SOFTHSM2_CONF={shlex.quote(str(store.conf))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
