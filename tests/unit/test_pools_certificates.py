"""The register of our own CAs: a certificate is revoked once and refused in every path."""

from __future__ import annotations

import pytest

from evcc import x509
from fixtures.pools import Pools
from plugvault.pki import path
from plugvault.pools import certificates
from plugvault.pools.errors import PoolError


def identity(der: bytes) -> tuple[str, str]:
    return path.identity(x509.parse(der))


def test_a_certificate_of_ours_is_known_by_issuer_and_serial(pools: Pools):
    der = pools.provisioning().der
    with pools.store.write() as records:
        assert not certificates.is_ours(records, *identity(der))
        entered = certificates.record(records, der)
        assert certificates.is_ours(records, *identity(der))
    assert (entered.revoked, entered.not_after) == (None, x509.parse(der).not_after)
    assert "CN=PVTP0000000000001" in entered.subject


def test_a_second_revocation_keeps_the_first_time_and_reason(pools: Pools):
    der = pools.provisioning().der
    with pools.store.write() as records:
        certificates.record(records, der)
        certificates.revoke(records, *identity(der), "keyCompromise", pools.now)
        again = certificates.revoke(records, *identity(der), "superseded", pools.now + 10)
    assert (again.revoked, again.reason) == (pools.now, "keyCompromise")


def test_a_foreign_certificate_cannot_be_revoked(pools: Pools):
    with pools.store.write() as records, pytest.raises(PoolError, match="not-found"):
        certificates.revoke(records, *identity(pools.provisioning().der), "superseded", pools.now)


def test_an_unknown_reason_is_refused_and_says_which_there_are(pools: Pools):
    with pools.store.write() as records:
        status = certificates.record(records, pools.provisioning().der)
        with pytest.raises(PoolError, match="revocationReason : must be one of"):
            certificates.revoke(records, status.issuer, status.serial, "boredom", pools.now)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_path_is_refused_wherever_it_is_revoked(pools: Pools, place: int):
    chain = pools.provisioning().chain
    with pools.store.write() as records:
        for der in chain:
            certificates.record(records, der)
        certificates.check(records, chain)
        certificates.revoke(records, *identity(chain[place]), "superseded", pools.now)
        with pytest.raises(PoolError, match="revoked"):
            certificates.check(records, chain)
