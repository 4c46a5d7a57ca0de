"""A board's car erased: its files on the board, and its keys in the token of this computer.

It is done at the prompt. So it needs neither the module, which does not start with a damaged
store, nor the maker, whose data folder may be lost. The keys go first: without the car's note of
its own key's custody a key that is left would count as the token describes it (`evcc.identity`).
"""

import posixpath
import re
from collections.abc import Collection, Sequence

from evcc import identity, revocation, timekeeper, trust
from evcc.contracts import INDEX, ContractError, Contracts
from evcc.ports.files import Files, StoreError
from evcc.ports.slots import SlotFiles
from plugvault.board import configuration, copying
from plugvault.board.errors import DeviceError
from plugvault.board.folder import Board
from plugvault.board.repl import Repl
from plugvault.temporary import temporary_folder
from plugvault.tokens import probes, subprocess_probe
from plugvault.vault_service.callers import VaultCaller

_NAMES = (INDEX, identity.FILE, identity.KEY_FILE, trust.FILE, revocation.FILE, timekeeper.FILE)
# A store's folder is the user's choice, and may have other files: they stay. ".a", ".b": on FAT.
_OF_A_CAR = re.compile(rf"(?:{'|'.join(_NAMES)}|chain-[0-9a-f]+)(?:\.a|\.b)?(?:\.new)?")
_LIST = """
import os
for folder in %r:
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    for name in names:
        print(repr((folder, name)))
print(None)
"""


def find(repl: Repl, store: str) -> list[str]:
    """The paths of a car's files, in the store of the board's present configuration and in
    `store`, that of the next one. Raises: DeviceError."""
    folders = {_folder(repl.root, name) for name in (store, _present_store(repl) or store)}
    lines: list[str] = []
    repl.run(_LIST % (sorted(folders),), lines.append)
    listed = map(copying.pair, lines)
    return sorted(posixpath.join(*pair) for pair in listed if _OF_A_CAR.fullmatch(pair[1]))


def _folder(root: str, store: str) -> str:
    """The one path of a store, of which a configuration may have another spelling."""
    return "/" + posixpath.normpath(posixpath.join(root, store)).lstrip("/")


def erase(repl: Repl, board: Board, paths: Sequence[str]) -> int:
    """Destroy the keys of the car whose files these are, and remove the files. Returns the number
    of keys, 0 where the car's keys are in another token. Raises: DeviceError, VaultError."""
    with board.locked():
        count = _destroy_keys(repl, board, paths)
    copying.remove(repl, paths)
    return count


def _present_store(repl: Repl) -> str:
    """The store in the board's config.json, "" without one."""
    config = copying.read(repl, configuration.FILE)
    try:
        return str(configuration.read(config)["store"]) if config else ""
    except DeviceError:
        return ""  # a file of something else


def _destroy_keys(repl: Repl, board: Board, paths: Sequence[str]) -> int:
    token = board.configuration()
    owners: list[str] | None = None
    if board.token:  # the user's own token may have keys of other cars
        claims = {b"", *(_claim(repl, paths, store) for store in map(posixpath.dirname, paths))}
        owners = [VaultCaller(board.uid.encode()).owner(claim).hex() for claim in claims]
    return subprocess_probe.run(
        probes.destroy_keys, location=token.location, pin=token.pin, of=owners
    )


def _claim(repl: Repl, paths: Collection[str], store: str) -> bytes:
    """The owner that the car claims at its vault service; b"" where its index is missing or
    damaged."""
    with temporary_folder() as folder:
        for name in (INDEX, INDEX + ".a", INDEX + ".b"):
            path = posixpath.join(store, name)
            if path in paths:
                data = copying.read(repl, path)
                (folder / name).write_bytes(data or b"")
        is_fat = posixpath.join(store, INDEX) not in paths
        try:
            return bytes(Contracts(SlotFiles(str(folder)) if is_fat else Files(str(folder))).owner)
        except (ContractError, StoreError):
            return b""
