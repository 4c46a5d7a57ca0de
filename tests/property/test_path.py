"""`path.validate` and `evcc.chain.validate` agree on every path: the same anchor, or the same
refusal in the same words, after any earlier validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from evcc import chain
from evcc.x509 import Certificate, CertificateError
from plugvault.pki import path
from plugvault.pki.verify import verify_p256
from world import DAY, EMAID, NOW, subject_name

DER = Encoding.DER
VECTORS = Path(__file__).parents[1] / "vectors/certificates.json"
CERTIFICATES = {
    name: bytes.fromhex(text) for name, text in json.loads(VECTORS.read_text()).items()
}
ROLES = (chain.CONTRACT, chain.CPS, chain.CPO, chain.PROVISIONING)
SUBS, ANCHORS = ("sub2", "sub1"), ("root",)

Outcome = bytes | tuple[str, str] | None  # the anchor's DER, or (reason, text) of the refusal


def readable(name: str) -> bool:
    try:
        path.read_any(CERTIFICATES[name])
    except CertificateError:
        return False
    return True


NAMES = [name for name in CERTIFICATES if readable(name)]


def outcome(validate: Callable[[], Certificate | None]) -> Outcome:
    try:
        anchor = validate()
    except CertificateError as error:
        return error.reason, str(error)
    return anchor and anchor.der


def validated(
    leaf: bytes, subs: Sequence[bytes], anchors: Sequence[bytes], role: str, now: int
) -> Outcome:
    """The outcome of `path.validate`, which must be that of `evcc.chain.validate`."""

    def by_evcc() -> Certificate | None:
        above = [[path.read_any(der) for der in ders] for ders in (subs, anchors)]
        return chain.validate(path.read_any(leaf), *above, role, now, verify_p256)

    result = outcome(lambda: path.validate(leaf, subs, anchors, role, now))
    assert result == outcome(by_evcc)
    return result


def validated_by_name(
    leaf: str, subs: Sequence[str], anchors: Sequence[str], role: str, now: int
) -> Outcome:
    ders = [[CERTIFICATES[name] for name in names] for names in (subs, anchors)]
    return validated(CERTIFICATES[leaf], ders[0], ders[1], role, now)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("leaf", NAMES)
def test_after_a_good_path_each_leaf_is_judged_as_by_evcc(leaf: str, role: str) -> None:
    good = validated_by_name("contract", SUBS, ANCHORS, chain.CONTRACT, NOW)
    assert good == CERTIFICATES["root"]
    validated_by_name(leaf, SUBS, ANCHORS, role, NOW)


def without_key_identifiers(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> bytes:
    """DER of a certificate; a root where it is its own issuer."""
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), NOW)
    builder = builder.not_valid_before(datetime.fromtimestamp(NOW, UTC))
    builder = builder.not_valid_after(datetime.fromtimestamp(NOW + DAY, UTC))
    is_root = x509.BasicConstraints(subject == issuer, None)
    return builder.add_extension(is_root, True).sign(issuer_key, SHA256()).public_bytes(DER)


def test_two_roots_of_one_name_without_key_identifiers_each_have_their_leaf() -> None:
    root_keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root_name = subject_name("Root", "MO", "Example", "DE")
    roots = [without_key_identifiers(root_name, key, root_name, key) for key in root_keys]
    leaf_name, leaf_key = subject_name(EMAID, "MO", "Example", None), root_keys[0]
    for root, root_key in zip(roots, root_keys, strict=True):
        leaf = without_key_identifiers(leaf_name, leaf_key, root_name, root_key)
        assert validated(leaf, [], roots, chain.CONTRACT, NOW) == root


UP_TO_FOUR = st.lists(st.sampled_from(NAMES), max_size=4)
MOMENTS = st.sampled_from([NOW, NOW + 1, NOW - 10**9, NOW + 10**9])
PATHS = st.tuples(st.sampled_from(NAMES), UP_TO_FOUR, UP_TO_FOUR, st.sampled_from(ROLES), MOMENTS)


@given(st.lists(PATHS))
def test_paths_are_judged_as_by_evcc_in_any_order(
    paths: list[tuple[str, list[str], list[str], str, int]],
) -> None:
    for leaf, subs, anchors, role, now in paths:
        validated_by_name(leaf, [*subs, *SUBS][-4:], [*anchors, *ANCHORS], role, now)


def test_a_path_that_was_good_a_second_ago_may_be_expired() -> None:
    arguments = ("old_sub", "sub1"), ANCHORS, chain.CONTRACT
    end = path.read_any(CERTIFICATES["old_sub"]).not_after
    assert validated_by_name("contract_by_old", *arguments, end) == CERTIFICATES["root"]
    refusal = validated_by_name("contract_by_old", *arguments, end + 1)
    assert isinstance(refusal, tuple)
    assert refusal[0] == "expired"
