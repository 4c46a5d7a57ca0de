"""Tests of a few lines: the fixtures come with plugvault, and each test has its own token."""

import hashlib

import pytest

import charging_backend

CHALLENGE = b"who are you?"
DIGEST = hashlib.sha256(CHALLENGE).digest()


def test_a_car_attests_with_its_key(vault):
    point = vault.generate_provisioning_key()
    assert vault.verify(point, DIGEST, charging_backend.attest(vault, CHALLENGE))


@pytest.mark.parametrize("again", [1, 2])
def test_our_log_key_is_made_in_softhsm(softhsm_token, again):
    token = softhsm_token
    assert charging_backend.make_log_key(str(token.module), token.label, token.pin) == 256


def test_a_car_attests_with_its_key_in_nss_too(nss_token):
    with nss_token.service() as service:
        vault = service.client()
        point = vault.generate_provisioning_key()
        assert vault.verify(point, DIGEST, charging_backend.attest(vault, CHALLENGE))


def test_our_backend_finds_the_contract_that_the_car_then_charges_with(plug_and_charge):
    world = plug_and_charge.ecosystem
    emaid = plug_and_charge.contract()
    ours = world.credentials("OEM")
    pools = charging_backend.Pools(world.url, ours.client_id, ours.client_secret)
    assert pools.contracts(plug_and_charge.pcid) == [emaid]
    assert plug_and_charge.charge() == emaid
