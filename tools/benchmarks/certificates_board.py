"""The part of certificates.py that each interpreter runs: prints the fastest µs of each task.

INTERPRETER certificates_board.py VECTORS REPEATS...
"""

import gc
import json
import sys
import time

from evcc import chain, p256, x509

NOW = 1767225600


def fastest(work, repeats):
    """The µs of the quickest of `repeats` runs: other load can only make a run longer."""
    best = None
    for _ in range(repeats):
        if hasattr(time, "ticks_us"):
            started = time.ticks_us()
            work()
            took = time.ticks_diff(time.ticks_us(), started)
        else:
            started = time.perf_counter()
            work()
            took = (time.perf_counter() - started) * 1e6
        best = took if best is None else min(best, took)
    return best


def load(name):
    with open(sys.argv[1] + "/" + name, encoding="utf-8") as file:
        return json.load(file)


made = load("certificates.json")
ders = [bytes.fromhex(made[name]) for name in ("contract", "sub2", "sub1", "root")]
leaf, sub2, sub1, root = [x509.parse(der) for der in ders]
case = [bytes.fromhex(text) for text in load("p256.json")[0][1:4]]

TASKS = (
    lambda: p256.verify(*case),
    lambda: x509.parse(ders[0]),
    lambda: chain.validate(
        leaf, [sub2, sub1], [root], chain.CONTRACT, NOW, lambda point, digest, signature: True
    ),
)
for at, task in enumerate(TASKS):
    task()
    gc.collect()  # a heap that the JSON has fragmented takes twice the time
    print(fastest(task, int(sys.argv[2 + at])))
