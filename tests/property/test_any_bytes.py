"""Readers without a property file of their own, on any bytes and on nearly right ones."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[1]
sys.path.extend([str(FOLDER / "both"), str(FOLDER / "fuzz")])
from noise import Chance, spoil  # noqa: E402

TARGETS = ("capture", "record", "sdp", "text", "vault")


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=200)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_one_error(name: str, data: bytes) -> None:
    importlib.import_module(name + "_target").target(data)


@pytest.mark.parametrize("name", TARGETS)
def test_nearly_right_bytes_are_read_or_refused_with_one_error(name: str) -> None:
    fuzz = importlib.import_module(name + "_target")
    chance = Chance(len(name))
    for seed in fuzz.seeds():
        fuzz.target(seed)
        for per_thousand in (1, 10, 100) * 5:
            fuzz.target(spoil(seed, chance, per_thousand))
