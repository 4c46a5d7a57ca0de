"""Run a fuzz target with mutated bytes for a time, and keep the input of a failure.

    python tests/fuzz/run.py [SECONDS] [NAME...]        30 s each; every target if none is named

A target is `NAME_target.py` beside this file: `seeds()` gives bytes to start from, `target(data)`
raises for what must not happen, `SLOW` is how many seconds one input may take. Any coverage-guided
fuzzer may call `target` as well. The process must not grow meanwhile.
"""

import gc
import importlib
import os
import random
import sys
import time
from pathlib import Path

SLOW = 1.0  # seconds for one input
WARM = 500  # inputs before memory and open files are counted
MAY_GROW = (32 << 20, 20)  # bytes, files


def mutate(rng: random.Random, data: bytes, second: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        size = rng.randrange(1, 9)
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0x81, 0x82, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = rng.randbytes(size)
        elif kind == 4:
            out[at:at] = out[at : at + 4 * size]
        elif second:
            start = rng.randrange(len(second))
            out[at : at + size] = second[start : start + size]
    return bytes(out)


def fuzz(
    name: str, seconds: float, *, inputs: int | None = None, rng: random.Random | None = None
) -> int:
    """Run a target for `seconds`, or for `inputs`. Returns the number of inputs."""
    module = importlib.import_module(f"{name}_target")
    slow = getattr(module, "SLOW", SLOW)
    rng = rng or random.Random()
    pool = list(module.seeds()) or [b""]
    for seed in pool:  # what the target makes once is there before anything is measured
        module.target(seed)
    runs, warm, end = 0, None, time.monotonic() + seconds
    while time.monotonic() < end and (inputs is None or runs < inputs):
        data = mutate(rng, rng.choice(pool), rng.choice(pool))
        began = time.monotonic()
        try:
            module.target(data)
            if time.monotonic() - began > slow:
                raise TimeoutError("slower than it may be")
        except Exception:
            print("broken by", data.hex())
            raise
        runs += 1
        if runs == WARM:
            warm = used()
    check_growth(name, warm, used())
    print(f"{name}: {runs} inputs in {seconds:g} s, none broke it")
    return runs


def used() -> tuple[int, int]:
    """(bytes of memory, open files) of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir()))


def check_growth(name: str, before: tuple[int, int] | None, after: tuple[int, int]) -> None:
    if before is None:
        return
    for what, first, last, may in zip(("bytes", "files"), before, after, MAY_GROW, strict=True):
        if last - first > may:
            raise MemoryError(f"{name} grows: from {first} to {last} {what}")


def main(arguments: list[str]) -> None:
    folder = Path(__file__).parent
    sys.path.insert(0, str(folder))
    every = sorted(path.stem.removesuffix("_target") for path in folder.glob("*_target.py"))
    seconds = float(arguments.pop(0)) if arguments and arguments[0].isdigit() else 30.0
    for name in arguments:
        if name not in every:
            sys.exit(f"no target is called {name}; there are: {', '.join(every)}")
    for name in arguments or every:
        fuzz(name, seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
