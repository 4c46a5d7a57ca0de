"""A path that is validated from memory is the path that `evcc.chain` validates: the same anchor,
or the same refusal, in the same words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcc import chain
from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.pki.verify import verify_p256
from world import NOW

VECTORS = Path(__file__).parents[1] / "vectors/certificates.json"
MADE = {name: bytes.fromhex(text) for name, text in json.loads(VECTORS.read_text()).items()}
ROLES = (chain.CONTRACT, chain.CPS, chain.CPO, chain.PROVISIONING)
BELOW_ROOT = {"subs": ("sub2", "sub1"), "anchors": ("root",)}


def readable(name: str) -> bool:
    try:
        path.read_any(MADE[name])
    except CertificateError:
        return False
    return True


NAMES = [name for name in MADE if readable(name)]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "_above", {})


def outcome(call: Any) -> Any:
    try:
        return call().der
    except CertificateError as error:
        return error.reason, str(error)


def agrees(leaf: str, subs: tuple[str, ...], anchors: tuple[str, ...], role: str, now: int) -> Any:
    ders = [MADE[sub] for sub in subs], [MADE[anchor] for anchor in anchors]

    def strictly() -> Any:
        read = [[path.read_any(der) for der in part] for part in ders]
        return chain.validate(path.read_any(MADE[leaf]), *read, role, now, verify_p256)

    said = outcome(lambda: path.validate(MADE[leaf], *ders, role, now))
    assert said == outcome(strictly)
    return said


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("leaf", NAMES)
def test_after_a_good_path_each_leaf_is_taken_or_refused_as_by_evcc(leaf: str, role: str) -> None:
    assert agrees("contract", **BELOW_ROOT, role=chain.CONTRACT, now=NOW) == MADE["root"]
    assert path._above
    agrees(leaf, **BELOW_ROOT, role=role, now=NOW)


SOME = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)
MOMENTS = st.sampled_from([NOW, NOW + 1, NOW - 10**9, NOW + 10**9])


@given(st.lists(st.tuples(st.sampled_from(NAMES), SOME, SOME, st.sampled_from(ROLES), MOMENTS)))
def test_whatever_was_validated_before_evccs_rules_hold(
    asked: list[tuple[str, tuple[str, ...], tuple[str, ...], str, int]],
) -> None:
    for leaf, subs, anchors, role, now in asked:
        agrees(leaf, (*subs, "sub2", "sub1")[-4:], (*anchors, "root"), role, now)


def test_what_was_good_a_second_ago_is_looked_at_again() -> None:
    below = {"subs": ("old_sub", "sub1"), "anchors": ("root",), "role": chain.CONTRACT}
    ends = path.read_any(MADE["old_sub"]).not_after
    assert agrees("contract_by_old", **below, now=ends) == MADE["root"]
    assert agrees("contract_by_old", **below, now=ends + 1)[0] == "expired"


def test_no_more_is_known_than_said() -> None:
    for now in range(NOW, NOW + path.ABOVE + 3):
        agrees("contract", **BELOW_ROOT, role=chain.CONTRACT, now=now)
    assert len(path._above) == path.ABOVE
