"""A bounded memory: only the oldest entry is evicted, with several writers too."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from plugvault import bounded


def test_a_new_entry_replaces_the_oldest() -> None:
    entries: dict[str, int] = {}
    for number, name in enumerate("abcd"):
        bounded.put(entries, 3, name, number)
    assert entries == {"b": 1, "c": 2, "d": 3}


def test_an_entry_that_is_put_again_evicts_nothing() -> None:
    entries = {"a": 1, "b": 2}
    bounded.put(entries, 2, "b", 3)
    assert entries == {"a": 1, "b": 3}


class Watched(dict[int, int]):
    """`most`: how many were in the middle of putting something in at once."""

    inside = most = 0

    def __len__(self) -> int:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.001)
        self.inside -= 1
        return super().__len__()


def test_threads_write_one_at_a_time() -> None:
    entries = Watched()

    def fill(start: int) -> None:
        for number in range(start, start + 20):
            bounded.put(entries, 8, number, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(0, 80, 20)))
    assert entries.most == 1
    assert len(entries) == 8
