"""Helpers of the tests in this folder, on CPython and on MicroPython alike."""

import gc

VECTORS = __file__.rsplit("/", 1)[0] + "/../vectors/"


class Skip(Exception):
    """This test cannot run on this interpreter; the text says why."""


def skip(why: str) -> None:
    raise Skip(why)


def needs_heap(size: int) -> None:
    """Skip where MicroPython has fewer than `size` bytes of heap in all, as on a board."""
    if hasattr(gc, "mem_free") and gc.mem_free() + gc.mem_alloc() < size:
        skip("it needs a heap of {} KiB".format(size >> 10))


def raises(error: type, reason, fn, *args, **kwargs):
    """Call `fn`; it must raise `error` with `.reason == reason` (None: any). Returns the error."""
    try:
        result = fn(*args, **kwargs)
    except error as e:
        actual = getattr(e, "reason", None)
        if reason is not None and actual != reason:
            raise AssertionError("reason {!r}, not {!r}: {}".format(actual, reason, e))
        return e
    raise AssertionError("{} was not raised; got {!r}".format(error.__name__, result))


class Pauses:
    """For `evcc.pause.set_pause`: calls this function."""

    def __init__(self, function) -> None:
        self.pause = function


def vector(name: str) -> bytes:
    """The bytes of `tests/vectors/NAME`."""
    with open(VECTORS + name, "rb") as file:
        return file.read()
