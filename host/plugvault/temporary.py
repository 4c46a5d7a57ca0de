"""Temporary folders in memory, and the removal of those that killed processes have left.

A folder names its process in a file: the process namespace, the id and the time of its start. So
a folder whose process has ended is known, and a folder of a live process, of another user or of
another container is left alone.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_ROOM = 32 << 20  # bytes; a run needs a few
_OWNER = ".owner"


def memory(despite_tmpdir: bool = False) -> Path | None:
    """A folder in memory for temporary files, because SoftHSM writes each object thirty times.

    None when TMPDIR names another folder, unless `despite_tmpdir`, and when there is no room.
    """
    if os.environ.get("TMPDIR") and not despite_tmpdir:
        return None
    folder = Path("/dev/shm")  # noqa: S108 - only TemporaryDirectory makes names in it
    roomy = folder.is_dir() and shutil.disk_usage(folder).free > _ROOM
    return folder if roomy and os.access(folder, os.W_OK) else None


@contextlib.contextmanager
def temporary_folder(prefix: str = "plugvault-", despite_tmpdir: bool = False) -> Iterator[Path]:
    """A folder for this user alone, in memory if possible, removed at the end.

    Folders of killed processes with the same prefix are removed first, because they hold keys and
    PINs.
    """
    in_memory = memory(despite_tmpdir)
    parent = in_memory or Path(tempfile.gettempdir())
    remove_left(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name:
        folder = Path(name)
        (folder / _OWNER).write_text(_identity(os.getpid()), encoding="utf-8")
        yield folder


def remove_left(parent: Path, prefix: str) -> list[Path]:
    """Remove the folders in `parent` that killed processes have left. Returns the removed
    folders."""
    removed = []
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, ValueError):  # removed by another process meanwhile
            # Another user's `.owner` is not opened: a FIFO in its place would block without end.
            if _is_ours(folder) and _has_ended((folder / _OWNER).read_text(encoding="utf-8")):
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def _is_ours(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _has_ended(owner: str) -> bool:
    """Whether the process of an `_identity` has ended, as far as this process can know it."""
    namespace, pid, _ = owner.split()
    if namespace != _namespace():
        return False
    try:
        return _identity(int(pid)) != owner
    except FileNotFoundError:
        return True


def _identity(pid: int) -> str:
    """Process namespace, id, and start in clock ticks since the boot. Raises OSError."""
    status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return f"{_namespace()} {pid} {status.rpartition(')')[2].split()[19]}"


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)
