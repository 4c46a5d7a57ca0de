"""Put the services of the HTTP server together, from the folder, the store and the authorities."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from plugvault.ecosystem import imported
from plugvault.ecosystem.authorities import Authorities
from plugvault.ecosystem.companies import CALLERS
from plugvault.ecosystem.folder import Folder
from plugvault.federation.clients import Link
from plugvault.federation.peers import Federation
from plugvault.foreign_revocation import TIMEOUT, ForeignRevocation
from plugvault.net import Outbound
from plugvault.opcp.services import Services, Settings
from plugvault.opcp.tokens import Tokens
from plugvault.pki import path
from plugvault.pki.keys import raw_signer
from plugvault.pools import certificates, clients, providers, rcp
from plugvault.pools.caller import ADMIN, Caller
from plugvault.pools.cps import Signer
from plugvault.pools.repositories import Records, Store

SET_UP = Caller("set-up", frozenset({ADMIN}))
Pair = tuple[str, str]  # client_id, client_secret


def open_services(
    stack: ExitStack,
    pki: Authorities,
    store: Store,
    url: str,
    clock: Callable[[], float],
    settings: Settings,
    links: Mapping[str, Link],
) -> Services:
    """The services of an ecosystem, until `stack` ends.

    `url`: the ecosystem's address; `clock()`: Unix seconds; `links`: the credentials for its
    partners.
    """
    peers = Federation(store, links, clock, settings.dual_control)
    stack.callback(peers.close)
    signer = Signer(
        pki.cps.certificate,
        pki.cps.subs,
        path.fingerprint(pki.v2g.root),
        raw_signer(pki.cps.key),
    )
    revocation = ForeignRevocation(
        store,
        (authority.identifier.hex() for authority in pki.every),
        Outbound(settings.networks, TIMEOUT),
        clock,
    )
    return Services(
        store=store,
        tokens=Tokens(url, clock, pki.access, store),
        signers=[signer],
        enrolment=pki.enrolment,
        operator=pki.hosted,
        ocsp=f"{url}/ocsp",
        clock=clock,
        authorities=pki.every,
        update_revocations=revocation,
        revocations_are_due=revocation.is_due,
        webhook_secret=pki.webhooks.derive,
        settings=settings,
        peers=peers,
    )


def seed(store: Store, folder: Folder, pki: Authorities, now: float) -> dict[str, Pair]:
    """Store the first roots, certificates and clients; existing ones stay as they are. `now`: Unix
    seconds.

    Returns the credentials of each role, which the folder stores.
    """
    credentials: dict[str, Pair] = {}
    with store.write() as records:
        roots = [("V2G", pki.v2g), ("OEM", pki.oem), ("MO", pki.mo)]
        for kind, authority in roots + [("V2G", newer) for newer in pki.newer]:
            if not records.roots.by_fingerprint(path.fingerprint(authority.root)):
                rcp.put(records, authority.root, kind, now)
        for kind, root in imported.trusted(folder):
            if not records.roots.by_fingerprint(path.fingerprint(root)):
                rcp.put(records, root, kind, now)
        for certificate in pki.certificates:
            if not certificates.is_ours(records, *path.identity(path.read_any(certificate))):
                certificates.record(records, certificate)
        for caller in CALLERS:
            client_id, secret = folder.secret("clients", caller.name, clients.new_credentials)
            if not records.clients.get(client_id):
                register_client(records, caller, (client_id, secret), now)
            credentials.update(dict.fromkeys(caller.roles, (client_id, secret)))
    return credentials


def register_client(records: Records, caller: Caller, credentials: Pair, now: float) -> None:
    """Register a client, after the provider identifiers of its company. Raises PoolError."""
    for provider in caller.providers:
        if not records.providers.get(provider):
            providers.enter(records, SET_UP, provider, caller.name, now, registry="example")
    clients.register(records, caller, credentials, SET_UP.name, now)


def certificate_recorder(store: Store) -> Callable[[bytes], None]:
    """A function that records a certificate (DER) for the ecosystem's OCSP responder."""

    def record(certificate: bytes) -> None:
        with store.write() as records:
            certificates.record(records, certificate)

    return record
