"""From what is kept (folder, store, authorities) to the services that the HTTP face is given."""

from collections.abc import Callable

from plugvault.ecosystem.authorities import Authorities
from plugvault.opcp.services import Services, Settings
from plugvault.opcp.tokens import Tokens
from plugvault.pki import path
from plugvault.pki.keys import raw_signer
from plugvault.pools import rcp
from plugvault.pools.cps import Signer
from plugvault.pools.records import Store


def furnish(store: Store, pki: Authorities, now: float) -> None:
    """Put into an empty store what an ecosystem begins with; leave alone what is there."""
    with store.write() as records:
        for kind, authority in (("V2G", pki.v2g), ("OEM", pki.oem), ("MO", pki.mo)):
            if not records.roots.by_fingerprint(path.fingerprint(authority.root)):
                rcp.put(records, authority.root, kind, now)


def services(
    store: Store,
    pki: Authorities,
    tokens: Tokens,
    ocsp: str,
    clock: Callable[[], float],
    settings: Settings,
) -> Services:
    """`ocsp`: the responder's address, for certificates that are issued from now on."""
    signer = Signer(
        pki.cps.certificate,
        pki.cps.subs,
        path.fingerprint(pki.v2g.root),
        raw_signer(pki.cps.key),
    )
    return Services(
        store=store,
        tokens=tokens,
        signers=[signer],
        enrolment={"oem": pki.vehicles},
        operator=pki.hosted,
        ocsp=ocsp,
        clock=clock,
        settings=settings,
    )
