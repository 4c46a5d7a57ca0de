"""The memory of a process, for tests that search it for secrets.

The vault service is not dumpable, so only root may read its memory.
"""

import os
from pathlib import Path

_PIECE = 1 << 22


def may_read(pid: int) -> bool:
    """Whether this process may read the memory of that one."""
    try:
        with Path(f"/proc/{pid}/mem").open("rb"):
            return True
    except PermissionError:
        return False


def search(pid: int, secrets: dict[str, bytes]) -> dict[str, list[str]]:
    """The regions that hold a secret, in either byte order: {name: [region]}, without the names of
    secrets that are not found.

    Raises: AssertionError when little of the memory could be read.
    """
    wanted = {name: {value, value[::-1]} for name, value in secrets.items()}
    longest = max(map(len, secrets.values()))
    found: dict[str, list[str]] = {}
    taken = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            span, rights, *rest = line.split(maxsplit=5)
            name = rest[3] if len(rest) > 3 else "anonymous"
            if not rights.startswith("rw") or name in ("[vvar]", "[vsyscall]"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            before = b""
            for at in range(start, end, _PIECE):
                try:
                    piece = os.pread(memory.fileno(), min(_PIECE, end - at), at)
                except OSError:
                    break
                taken += len(piece)
                data = before + piece
                for secret, forms in wanted.items():
                    count = sum(data.count(form) for form in forms)
                    found.setdefault(secret, []).extend([name] * count)
                before = data[-longest + 1 :]
    assert taken > 1 << 20, f"{taken} bytes of memory seen"
    return {name: regions for name, regions in found.items() if regions}
