"""Small named files in one folder of flash or disk, each written atomically.

A write goes to a temporary name, is flushed to the medium, takes its name by `rename`, and the
folder is flushed too: a power cut at any point leaves the old bytes or the new ones. Flushing is
`os.fsync` on CPython; MicroPython's Unix port does the same inside `flush()`, of a folder as
well; a board's littlefs commits at `close()` and replaces atomically in `rename`. On FAT `rename`
is two steps: `open_folder` takes `evcc.ports.slots` there.

Not for secrets: keys live in the token.
"""

import errno
import os

from evcc.errors import EvccError

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
_NAME_LIMIT = 64
_TEMPORARY = ".new"

_ENOSPC = 28  # by number: MicroPython's errno names neither this one nor the next two
_REASONS = {
    _ENOSPC: "full",
    122: "full",  # EDQUOT
    30: "read-only",  # EROFS
    errno.EACCES: "read-only",
    errno.EPERM: "read-only",
}


class StoreError(EvccError):
    """A failed store operation; the stored files are as before."""

    REASONS = (
        "name",  # not a name of this store
        "full",
        "read-only",
        "io",  # every other error of the system
    )


def open_folder(folder: str) -> "Files":
    """The store in `folder`, in the way that its file system can commit. Raises: StoreError."""
    files = Files(folder)
    if not _ignores_case(folder):
        return files
    from evcc.ports.slots import SlotFiles

    return SlotFiles(folder)


def _ignores_case(folder: str) -> bool:
    """Whether the folder's file system is a FAT: it finds the folder under another spelling."""
    parent, _, name = folder.rstrip("/").rpartition("/")
    other = name.upper() if name.upper() != name else name.lower()
    try:
        if other == name or not _is_folder(parent + "/" + other if parent else other):
            return False
        return other not in os.listdir(parent or ("/" if folder[0] == "/" else "."))
    except OSError:
        return False


def make_folder(folder: str) -> None:
    """Make the folder, if it is missing. Raises: StoreError."""
    try:
        if not _is_folder(folder):
            os.mkdir(folder)
            flush_path(folder + "/..")
    except OSError as error:
        raise store_error(error, folder)


class Files:
    """The files in `folder`, which is made if it is missing. Half-written files are removed.

    name: 1 to 64 letters, digits, "-", "_" and ".", not beginning with ".". Raises: StoreError.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        make_folder(folder)
        try:
            for name in os.listdir(folder):
                if name.endswith(_TEMPORARY):
                    os.remove(folder + "/" + name)
            # The last writer may have been killed before it flushed, and this process acts on
            # what it reads now.
            flush_path(folder)
        except OSError as error:
            raise store_error(error, folder)

    def read(self, name: str) -> "bytes | None":
        """The bytes of `name`, or None when there is no such file. Raises: StoreError."""
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise store_error(error, name)

    def write(self, name: str, *parts: bytes) -> None:
        """Replace `name` by `parts`, which follow one another, atomically; durable on return.
        Raises: StoreError."""
        path = self._path(name)
        temporary = path + _TEMPORARY
        try:
            with open(temporary, "wb") as file:
                for part in parts:
                    if file.write(part) != len(part):
                        raise OSError(_ENOSPC, "short write")
                flush(file)
            os.rename(temporary, path)
        except OSError as error:
            discard(temporary)
            raise store_error(error, name)
        flush_path(self._folder)

    def delete(self, name: str) -> None:
        """Remove `name`; no error when it is not there. Raises: StoreError."""
        try:
            os.remove(self._path(name))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise store_error(error, name)
        flush_path(self._folder)

    def names(self) -> "list[str]":
        """The names of all files, sorted. Raises: StoreError."""
        try:
            return sorted(n for n in os.listdir(self._folder) if not n.endswith(_TEMPORARY))
        except OSError as error:
            raise store_error(error, self._folder)

    def _path(self, name: str) -> str:
        """Refuses names outside the folder, and names of temporary files."""
        if (
            not 0 < len(name) <= _NAME_LIMIT
            or name[0] == "."
            or name.endswith(_TEMPORARY)
            or not all(letter in _LETTERS for letter in name)
        ):
            raise StoreError("name", repr(name[:_NAME_LIMIT]))
        return self._folder + "/" + name


def flush(file) -> None:
    """Flush an open file to the medium. Raises: OSError."""
    file.flush()
    if hasattr(os, "fsync"):
        os.fsync(file.fileno())


def flush_path(path: str) -> None:
    """Make durable a file's content, or a folder's renames and removals.

    A failure is not raised: every reader already sees the new state, and the caller could not undo
    it. (littlefs and FAT open no folders: there the rename itself is the commit.)
    """
    try:
        if not hasattr(os, "fsync"):
            with open(path, "rb") as folder:
                folder.flush()
            return
        descriptor = os.open(path, os.O_RDONLY)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, MemoryError):
        pass


def _is_folder(path: str) -> bool:
    try:
        return bool(os.stat(path)[0] & 0x4000)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise


def discard(path: str) -> None:
    """Remove a file that need not exist."""
    try:
        os.remove(path)
    except OSError:
        pass  # the next start removes it


def store_error(error: OSError, name: str) -> StoreError:
    """The StoreError for an error of the system. name: of the file or folder."""
    return StoreError(_REASONS.get(error.errno or 0, "io"), name + ": errno " + str(error.errno))
