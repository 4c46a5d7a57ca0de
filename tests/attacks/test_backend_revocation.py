"""Attacks on the revocation status: a CA writes another CA's key identifier and the serial number
of its certificate into a certificate of its own, and revokes that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import AuthorityInformationAccessOID

from fixtures.pools import OPERATOR, Pools, authority
from fixtures.responders import Listener
from plugvault.foreign_revocation import ForeignRevocation
from plugvault.net import Outbound
from plugvault.pki import path, responder
from plugvault.pki.responder import RevocationEntry
from plugvault.pools import ccp, certificates, cps, rcp
from plugvault.pools.errors import PoolError
from world import CA_USAGE, EMAID, NOW, PCID, Issued, issued, root, subject_name, usage


def forged(
    issuer: Issued,
    names: x509.Name,
    victim: Issued,
    *,
    serial: int | None = None,
    identifier: bytes | None = None,
    url: str = "",
) -> Issued:
    """A certificate by `issuer` that says to be by the victim's issuer, under `serial`; with an
    `identifier` a CA that says to have the key of that name."""
    assert issuer.key
    key = ec.generate_private_key(ec.SECP256R1())
    above = victim.certificate.extensions.get_extension_for_class(
        x509.AuthorityKeyIdentifier
    ).value
    now = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject, names, key.public_key())
        .serial_number(serial or x509.random_serial_number() >> 33)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
    )
    if identifier:
        builder = (
            builder.add_extension(CA_USAGE, critical=True)
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
            .add_extension(_above(issuer), critical=False)
        )
    else:
        builder = builder.add_extension(
            usage("digital_signature", "key_agreement"), critical=True
        ).add_extension(above, critical=False)
    if url:
        place = x509.UniformResourceIdentifier(url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return issued(builder.sign(issuer.key, SHA256()), key, issuer)


def _above(issuer: Issued) -> x509.AuthorityKeyIdentifier:
    own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier(own.digest, None, None)


def test_a_contract_cannot_take_anothers_certificate_along_when_it_ends(pools: Pools):
    """The operator's CA is its own; it names the ecosystem's, and the serial number of the CPS."""
    pools.register()
    victim = pools.world.cps
    with pools.store.write() as records:
        certificates.record(records, victim.der)
    attack = forged(
        pools.world.mo_sub2,
        subject_name(EMAID, "MO", "Plug Test", "DE"),
        victim,
        serial=victim.certificate.serial_number,
    )
    assert path.identity(path.read(attack.der)) == path.identity(path.read(victim.der))
    data = replace(pools.data(), certificate=attack.der)
    with contextlib.suppress(PoolError), pools.store.write() as records:
        signed = cps.sign(records, OPERATOR, [pools.signer], data, PCID, pools.now)
        ccp.keep(records, signed, pools.now)
        ccp.delete(records, OPERATOR, EMAID, pools.now)
    with pools.store.read() as records:
        certificates.check(records, [victim.der])


@pytest.fixture
def place() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.mark.parametrize("ca", ["the victim's identifier for its key", "its own identifier"])
def test_a_ca_cannot_revoke_certificates_of_another(pools: Pools, place: Listener, ca: str):
    """Both CAs hang from roots of RCP; the responder of one says that its own leaf is revoked."""
    victim = pools.provisioning()
    hostile = root("Hostile Root", dc="OEM")
    with pools.store.write() as records:
        rcp.put(records, hostile.der, "OEM", NOW)
    above = victim.certificate.extensions.get_extension_for_class(
        x509.AuthorityKeyIdentifier
    ).value
    names = subject_name("Sub CA", "OEM", "H", "DE")
    sub = (
        forged(hostile, names, victim, identifier=above.key_identifier)
        if ca.startswith("the victim")
        else hostile.sub("Sub CA", dc="OEM")
    )
    leaf = forged(
        sub,
        subject_name("XXXP0000000000001", "OEM", "H", "DE"),
        victim,
        serial=victim.certificate.serial_number,
        url=place.url,
    )
    requested_serials: list[int] = []

    def answer(request: bytes) -> bytes:
        request_ = responder.read(request)
        requested_serials.append(request_.serial)
        revoked = RevocationEntry(request_.serial, NOW - 60, "keyCompromise")
        return responder.answer(authority(sub), request_, revoked, NOW, NOW + 7200)

    place.answers = answer
    refresh = ForeignRevocation(pools.store, (), Outbound(["127.0.0.0/8"], 2.0), lambda: NOW)
    refresh([leaf.der, sub.der])
    with pools.store.read() as records:
        certificates.check(records, victim.chain)


def test_the_address_in_a_forged_certificate_is_not_called(pools: Pools, place: Listener):
    """Its certificate names a CA below a root of RCP, which has not signed it."""
    forged_ca = replace_key(pools.world.oem_sub2)
    leaf = forged(
        forged_ca,
        subject_name(PCID, "OEM", "H", "DE"),
        pools.provisioning(),
        url=place.url,
    )
    refresh = ForeignRevocation(pools.store, (), Outbound(["127.0.0.0/8"], 2.0), lambda: NOW)
    refresh([leaf.der, *pools.world.oem_sub2.chain])
    assert place.asked == []


def replace_key(issuer: Issued) -> Issued:
    """An issuer of the same name with another key."""
    return issued(issuer.certificate, ec.generate_private_key(ec.SECP256R1()), issuer.issuer)
