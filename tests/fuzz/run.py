"""Throw mutated bytes at a fuzz target until a time is up; keep what broke it.

    python tests/fuzz/run.py [SECONDS] [NAME...]        30 s each; every target if none is named

A target is `NAME_target.py` beside this file: `seeds()` gives bytes to start from, `target(data)`
raises for what must not happen. Any coverage-guided fuzzer may call `target` as well.
"""

import importlib
import random
import sys
import time
from pathlib import Path

SLOW = 1.0  # seconds for one input


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


def fuzz(name: str, seconds: float) -> None:
    module = importlib.import_module(f"{name}_target")
    rng = random.Random()
    pool = list(module.seeds()) or [b""]
    runs, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutate(rng, rng.choice(pool), rng.choice(pool))
        began = time.monotonic()
        try:
            module.target(data)
            if time.monotonic() - began > SLOW:
                raise TimeoutError("slower than it may be")
        except Exception:
            print("broken by", data.hex())
            raise
        runs += 1
    print(f"{name}: {runs} inputs in {seconds:g} s, none broke it")


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
