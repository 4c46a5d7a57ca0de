"""Fuzz target: an OCSP answer that a station staples."""

from collections.abc import Iterator

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from evcc import x509 as car_x509
from evcc.tls import ocsp
from fixtures.tls_stations import GOOD, REVOKED, answer
from world import NOW, World

WORLD = World()
SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
RESPONDER = WORLD.cpo_sub2.issue("Responder", extensions=[(SIGNING, True)])
LEAF = car_x509.parse(WORLD.cpo.der)
ISSUER = car_x509.parse(WORLD.cpo_sub2.der)


def seeds() -> Iterator[bytes]:
    yield answer(WORLD.cpo, NOW, GOOD)
    yield answer(WORLD.cpo, NOW, REVOKED)
    yield answer(WORLD.cpo, NOW, GOOD, signer=RESPONDER, certificates=[RESPONDER])


def target(data: bytes) -> None:
    """Only OcspError may come out, whatever the signature is said to be."""
    for verdict in (True, False):
        try:
            status = ocsp.read(data, LEAF, ISSUER, NOW, lambda *_, verdict=verdict: verdict)
        except ocsp.OcspError:
            continue
        if not verdict or status not in (ocsp.GOOD, ocsp.REVOKED, ocsp.UNKNOWN):
            raise AssertionError(status)
