"""A block device in memory that loses its power at a write, for file systems of MicroPython."""

try:
    import vfs
except ImportError:
    vfs = None

BLOCK = 512
EIO = 5
BEFORE, HALF, AFTER = 0, 1, 2  # how much of the write at the cut is done
_MOUNT = "/disk"


class RamDisk:
    """blocks: number of blocks of `BLOCK` bytes. `written`: number of writes and erasures."""

    def __init__(self, blocks=96):
        self.data = bytearray(b"\xff" * (blocks * BLOCK))
        self.written = 0
        self._cut = None
        self._is_off = False

    def cut(self, at, part):
        """Lose the power at write number `at` from now on."""
        self._cut = (self.written + at, part)

    def after(self):
        """The disk after the power has come back. This one stays off."""
        self._is_off = True
        disk = RamDisk(0)
        disk.data = bytearray(self.data)
        return disk

    # Errors are returned: the garbage collector may call these for a file that was left open, and
    # no exception can be made then.

    def readblocks(self, number, buffer, offset=0):
        if self._is_off:
            return -EIO
        start = number * BLOCK + offset
        buffer[:] = self.data[start : start + len(buffer)]
        return 0

    def writeblocks(self, number, buffer, offset=0):
        return -EIO if self._is_off else self._put(number * BLOCK + offset, buffer)

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.data) // BLOCK
        if operation == 5:
            return BLOCK
        if operation == 6:
            return self._put(argument * BLOCK, b"\xff" * BLOCK)
        return 0

    def _put(self, start, data):
        if self._is_off:
            return -EIO
        if self._cut and self.written == self._cut[0]:
            self._is_off = True
            data = data[: (0, len(data) // 2, len(data))[self._cut[1]]]
        self.data[start : start + len(data)] = data
        self.written += 1
        return -EIO if self._is_off else 0


def file_systems():
    """{name: its class} of this interpreter; none on CPython."""
    names = ("VfsFat", "VfsLfs2")
    return {name: getattr(vfs, name) for name in names if hasattr(vfs, name)}


def mounted(kind, disk, action, *args):
    """The result of `action(folder, *args)` while the disk is mounted."""
    vfs.mount(kind(disk), _MOUNT)
    try:
        return action(_MOUNT, *args)
    finally:
        vfs.umount(_MOUNT)
