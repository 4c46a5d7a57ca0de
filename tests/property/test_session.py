"""Both halves of a session take any bytes in any state: one typed end, or none, never a crash."""

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))

import secc_target
import session_target

ANY = st.tuples(st.integers(0, 10), st.integers(0, 1), st.binary(max_size=80)).map(
    lambda parts: bytes(parts[:2]) + parts[2]
)


def nearly_right(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A right message with a few bytes changed, cut short or followed by more."""

    def spoil(seed: bytes, at: float, patch: bytes, end: int | None) -> bytes:
        start = 2 + int(at * (len(seed) - 2))
        return (seed[:start] + patch + seed[start + len(patch) :])[:end]

    return st.builds(
        spoil,
        st.sampled_from(seeds),
        st.floats(0, 1),
        st.binary(max_size=4),
        st.none() | st.integers(2, 200),
    )


@given(ANY)
def test_the_car_survives_any_bytes_in_any_state(data: bytes) -> None:
    session_target.target(data)


@given(nearly_right(list(session_target.seeds())))
def test_the_car_survives_nearly_right_answers(data: bytes) -> None:
    session_target.target(data)


@given(ANY)
def test_the_station_survives_any_bytes_in_any_state(data: bytes) -> None:
    secc_target.target(data)


@given(nearly_right(list(secc_target.seeds())))
def test_the_station_survives_nearly_right_requests(data: bytes) -> None:
    secc_target.target(data)
