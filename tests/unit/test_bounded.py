"""A bounded memory: the oldest goes, nothing else does, whoever writes at the same time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from plugvault.bounded import keep


def test_the_oldest_goes_for_what_is_new() -> None:
    kept: dict[str, int] = {}
    for number, name in enumerate("abcd"):
        keep(kept, 3, name, number)
    assert kept == {"b": 1, "c": 2, "d": 3}


def test_what_is_put_again_drives_nothing_out() -> None:
    kept = {"a": 1, "b": 2}
    keep(kept, 2, "b", 3)
    assert kept == {"a": 1, "b": 3}


class Watched(dict[int, int]):
    """`most`: how many were in the middle of putting something in at once."""

    inside = most = 0

    def __len__(self) -> int:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.001)
        self.inside -= 1
        return super().__len__()


def test_threads_put_in_one_after_the_other() -> None:
    kept = Watched()

    def fill(start: int) -> None:
        for number in range(start, start + 20):
            keep(kept, 8, number, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(0, 80, 20)))
    assert kept.most == 1
    assert len(kept) == 8
