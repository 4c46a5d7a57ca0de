"""Temporary folders in memory, and the removal of those that killed processes have left.

A folder names its process in a file: the process namespace, the id and the time of its start. So
a folder whose process has ended is known, and a folder of a live process, of another user or of
another container is left alone. The file goes last: a kill during the removal leaves it, too.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - only TemporaryDirectory makes names in it
_ROOM = 32 << 20  # bytes; a run needs a few
_OWNER = ".owner"


def memory(despite_tmpdir: bool = False) -> Path | None:
    """A folder in memory for temporary files, because SoftHSM writes each object thirty times.

    None when TMPDIR names another folder, unless `despite_tmpdir`, and when there is no room.
    """
    if os.environ.get("TMPDIR") and not despite_tmpdir:
        return None
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if roomy and os.access(_MEMORY, os.W_OK) else None


@contextlib.contextmanager
def temporary_folder(
    prefix: str = "plugvault-", despite_tmpdir: bool = False, large: bool = False
) -> Iterator[Path]:
    """A folder for this user alone, removed at the end; in memory if possible, unless it becomes
    `large`.

    Folders of killed processes with the same prefix are removed first, because they hold keys and
    PINs, and the room that this one needs. They may be wherever an earlier process had the room.
    """
    on_disk = Path(tempfile.gettempdir())
    for parent in {_MEMORY, Path("/tmp"), on_disk}:  # noqa: S108 - nothing is made in it by name
        remove_left(parent, prefix)
    parent = on_disk if large else memory(despite_tmpdir) or on_disk
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name:
        folder = Path(name)
        (folder / _OWNER).write_text(_identity(os.getpid()), encoding="utf-8")
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):  # it was removed from outside
                _empty(folder)


def remove_left(parent: Path, prefix: str) -> list[Path]:
    """Remove the folders in `parent` that killed processes have left. Returns the removed
    folders."""
    removed = []
    for folder in parent.glob(f"{prefix}*"):
        # Removed by another process meanwhile, or nested too deep to be removed.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            # Another user's `.owner` is not opened: a FIFO in its place would block without end.
            if _is_ours(folder) and _has_ended((folder / _OWNER).read_text(encoding="utf-8")):
                _empty(folder)
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def _empty(folder: Path) -> None:
    """Remove everything but the file that names the owner, as far as possible."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != _OWNER:
            with contextlib.suppress(OSError):
                entry.unlink()


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
    # The program's name in it may be cut in the middle of a character.
    after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]
    return f"{_namespace()} {pid} {after_name.split()[19].decode()}"


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)
