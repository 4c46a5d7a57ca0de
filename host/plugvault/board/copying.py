"""The files of a board: what differs there, new files beside the old ones, and the switch.

The board computes a SHA-256 of each of its files. A new file is stored beside the old one, as
PATH.new, where an interrupted copy is continued; each is checked by its hash again; then a plan
makes them the board's files (`firmware/switch.py`). Without the plan the board has the old module,
with it the new one, at whatever point the power or the connection fails. Paths are in the root of
the board's files (`Repl.root`).
"""

import ast
import hashlib
import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from plugvault import runtimes
from plugvault.board.errors import DeviceError
from plugvault.board.facts import Facts
from plugvault.board.repl import Repl

NEW, _PLAN = ".new", "flash.plan"  # as `switch.py` has them
_FIRST, _LAST = ("switch.py", "boot.py"), ("main.py",)
_SPARE = 8  # blocks: the plan and the folders

# {path: SHA-256} of every file in these places, a line each; then the end.
_HASHES = """
import os, hashlib
root = %r
def walk(path):
    try:
        mode = os.stat(root + path)[0]
    except OSError:
        return
    if mode & 0x4000:
        for name in os.listdir(root + path):
            walk(path + "/" + name)
        return
    h = hashlib.sha256()
    b = bytearray(512)
    v = memoryview(b)
    with open(root + path, "rb") as f:
        while True:
            n = f.readinto(b)
            if not n:
                break
            h.update(v[:n])
    print(repr((path, "".join("%%02x" %% c for c in h.digest()))))
for path in %r:
    walk(path)
print(None)
"""
_READ = """
try:
    with open(%r, "rb") as f:
        print(repr(f.read()))
except OSError:
    print(None)
"""
_FOLDERS = """
import os
for path in %r:
    try:
        os.mkdir(path)
    except OSError as e:
        if e.errno != 17:
            raise
"""
_REMOVE = """
import os
for path in %r:
    try:
        os.remove(path)
    except OSError as e:
        if e.errno != 2:
            raise
"""
_COMMIT = """
import os
path = %r
with open(path + ".new", "w") as f:
    f.write(%r)
os.rename(path + ".new", path)
"""


@dataclass(frozen=True)
class Changes:
    """The difference between a board's files and the wanted ones.

    changed: files that differ or are missing, by path; staged: those of them that an earlier,
    interrupted copy left on the board; removed: files of the module that are no longer needed;
    unchanged: the number of equal files; stray: files of an interrupted copy that are not wanted.
    """

    changed: Mapping[str, bytes]
    staged: frozenset[str]
    removed: Sequence[str]
    unchanged: int
    stray: Sequence[str] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)

    @property
    def size(self) -> int:
        """The bytes to copy."""
        return sum(len(data) for path, data in self.changed.items() if path not in self.staged)


def compare(
    repl: Repl, files: Mapping[str, bytes], folders: Collection[str] = ("evcc",)
) -> Changes:
    """The changes that give the board these files, and no others in these folders.

    A switch that was interrupted must be finished before (`switch`). Raises: DeviceError.
    """
    places = {path.split("/")[0] for path in files} | set(folders)
    hashes = _hashes(repl, sorted({*places, *(place + NEW for place in places), _PLAN + NEW}))
    beside = {path.removesuffix(NEW): hashes.pop(path) for path in list(hashes) if _is_new(path)}
    changed = {path: data for path, data in files.items() if hashes.get(path) != digest(data)}
    staged = frozenset(path for path in changed if beside.get(path) == digest(changed[path]))
    return Changes(
        changed=changed,
        staged=staged,
        removed=sorted(set(hashes) - set(files)),
        unchanged=len(files) - len(changed),
        stray=sorted(path + NEW for path in beside if path not in staged),
    )


def _is_new(path: str) -> bool:
    return path.endswith(NEW)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def require_room(changes: Changes, facts: Facts) -> None:
    """Check that the new files have room beside the old ones. Raises: DeviceError("unfit")."""
    block = max(facts.block, 1)
    sizes = [len(data) for path, data in changes.changed.items() if path not in changes.staged]
    blocks = sum(-(-size // block) for size in sizes) + _SPARE
    if blocks * block > facts.flash_free:
        raise DeviceError(
            "unfit",
            f"the new files take {blocks * block // 1024} KiB beside the old ones, and"
            f" {facts.flash_free // 1024} KiB are free: remove files of your own from the board",
        )


def copy(
    repl: Repl, changes: Changes, on_file: Callable[[str, int], None] = lambda path, size: None
) -> None:
    """Store the new files beside the old ones, check each, and switch.

    on_file: called with path and bytes after each copied file. Raises: DeviceError; the board then
    has its old files, or after a failure in the last step completes the switch in boot.py.
    """
    if changes.stray:
        remove(repl, changes.stray)
    if not changes:
        return
    repl.run(_FOLDERS % ([repl.root + path for path in _folders(changes.changed)],))
    for path, data in changes.changed.items():
        if path not in changes.staged:
            repl.write(f"{repl.root}{path}{NEW}", data)
            on_file(path, len(data))
    _check(_hashes(repl, [path + NEW for path in changes.changed]), changes.changed, NEW)
    plan = "\n".join(
        [*(f"+{path}" for path in _ordered(changes.changed)), *(f"-{p}" for p in changes.removed)]
    )
    repl.run(_COMMIT % (repl.root + _PLAN, plan))
    switch(repl)
    _check(_hashes(repl, sorted(changes.changed)), changes.changed)


def read(repl: Repl, path: str) -> bytes | None:
    """The bytes of a small file on the board; None if there is none. Raises: DeviceError."""
    data: bytes | None = repl.run(_READ % posixpath.join(repl.root, path))
    return data


def remove(repl: Repl, paths: Sequence[str]) -> None:
    """Remove files of the board; those that are missing are no error. Raises: DeviceError."""
    repl.run(_REMOVE % ([posixpath.join(repl.root, path) for path in paths],))


def switch(repl: Repl) -> None:
    """Carry out the plan on the board, if there is one. Raises: DeviceError."""
    source = (runtimes.program() / "switch.py").read_text(encoding="utf-8")
    repl.run(source + f"\nfinish({repl.root!r})\n")


def _folders(paths: Mapping[str, bytes]) -> list[str]:
    """Every folder that the new files need, parents first."""
    folders: set[str] = set()
    for path in paths:
        parts = path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return sorted(folders)


def _ordered(paths: Mapping[str, bytes]) -> list[str]:
    """`switch.py` and `boot.py` first, which finish an interrupted switch; `main.py` last."""
    middle = sorted(set(paths) - {*_FIRST, *_LAST})
    return [path for path in (*_FIRST, *middle, *_LAST) if path in paths]


def _hashes(repl: Repl, places: Sequence[str]) -> dict[str, str]:
    lines: list[str] = []
    repl.run(_HASHES % (repl.root, list(places)), lines.append)
    return dict(map(pair, lines))


def pair(line: str) -> tuple[str, str]:
    """Two texts in a line of a script's output. Raises: DeviceError("script")."""
    try:
        first, second = ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError) as error:
        raise DeviceError("script", f"not two texts: {line[:200]!r}") from error
    return str(first), str(second)


def _check(hashes: Mapping[str, str], files: Mapping[str, bytes], suffix: str = "") -> None:
    wrong = [path for path, data in files.items() if hashes.get(path + suffix) != digest(data)]
    if wrong:
        raise DeviceError(
            "copy",
            f"{', '.join(wrong[:5])}: not the bytes that were sent. Try another cable or port;"
            " the board has its old files",
        )
