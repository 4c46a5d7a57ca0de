"""A bounded memory: the oldest goes, nothing else does, whoever writes at the same time."""

from __future__ import annotations

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


def test_it_never_holds_more_whoever_writes() -> None:
    kept: dict[int, int] = {}

    def fill(start: int) -> None:
        for number in range(start, start + 20_000):
            keep(kept, 8, number, number)
            assert len(kept) <= 8

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(0, 80_000, 20_000)))
    assert len(kept) == 8
