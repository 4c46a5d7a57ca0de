"""Run plain test functions, the same way on CPython and on MicroPython.

    python tests/both/run.py FILE...        micropython tests/both/run.py FILE...

Each `test_*` function of each file is called once, in alphabetical order. Prints `ok NAME`,
`skip NAME: WHY` or `FAIL NAME` with its traceback, then `N passed, M failed, K skipped`.
Exits 1 when a test failed, a file could not be loaded, or nothing ran at all.
"""

import gc
import sys

from helpers import Skip


def show(error: BaseException) -> None:
    if hasattr(sys, "print_exception"):  # MicroPython
        sys.print_exception(error)
    else:
        import traceback

        traceback.print_exception(error, file=sys.stdout)


def outcome(name: str, fn) -> str:
    """Call `fn`; print and return "ok", "skip" or "FAIL"."""
    try:
        fn()
    except Skip as e:
        print("skip {}: {}".format(name, e))
        return "skip"
    except Exception as e:  # noqa: BLE001 - every exception of a test is its failure
        print("FAIL", name)
        show(e)
        return "FAIL"
    print("ok", name)
    return "ok"


def run(path: str) -> list:
    """The outcomes of one file's tests. A file that does not load is one failure."""
    folder, _, file = path.rpartition("/")
    sys.path.insert(0, folder or ".")
    module_name = file.rsplit(".", 1)[0]
    try:
        module = __import__(module_name)
    except Skip as e:
        print("skip {}: {}".format(module_name, e))
        return ["skip"]
    except Exception as e:  # noqa: BLE001
        print("FAIL", module_name)
        show(e)
        return ["FAIL"]
    outcomes = []
    for name in sorted(n for n in dir(module) if n.startswith("test_")):
        gc.collect()
        outcomes.append(outcome(name, getattr(module, name)))
    return outcomes


def main(paths: list) -> int:
    # MicroPython: a collection before the heap is full keeps it from becoming fragmented. A board
    # has its own threshold.
    if hasattr(gc, "threshold") and gc.threshold() < 0:
        gc.threshold(1 << 18)
    outcomes = []
    for path in paths:
        outcomes.extend(run(path))
    passed, failed, skipped = [outcomes.count(word) for word in ("ok", "FAIL", "skip")]
    print("{} passed, {} failed, {} skipped".format(passed, failed, skipped))
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
