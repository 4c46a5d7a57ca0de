"""The identifiers that a client has now, and the scopes that its webhooks keep of them.

A client loses a provider identifier when the registry gives it to another company. The caller of a
request may come from a cache, so what is stored is decided by the client's row and the registry.
A transaction locks in this order: providers, owners of webhooks, webhooks.
"""

from dataclasses import replace

from plugvault.pools.caller import Caller
from plugvault.pools.repositories import Records


def of_client(records: Records, caller: Caller) -> Caller:
    """The caller with the roles and identifiers that its client has now. A caller without a client
    (the open mode, the command line) has its own."""
    client = records.clients.get(caller.client_id)
    return current(records, client.caller) if client else caller


def current(records: Records, caller: Caller) -> Caller:
    """The caller, without the identifiers that its company has lost."""
    valid = frozenset(
        provider for provider in caller.providers if belongs(records, caller.name, provider)
    )
    return caller if valid == caller.providers else replace(caller, providers=valid)


def belongs(records: Records, company: str, provider: str) -> bool:
    """Whether the registry has an active entry of the identifier under the company."""
    entry = records.providers.get(provider)
    return entry is not None and entry.active and entry.name.casefold() == company.casefold()


def joined(caller: Caller) -> str:
    """WMIs and providers in the form of `Endpoint.scopes`."""
    return ",".join(sorted(caller.wmis | caller.providers))


def lock_provider(records: Records, *providers: str) -> None:
    """Hold provider identifiers until the transaction ends, because an entry of the registry and
    the registration of a client depend on each other."""
    records.lock(*(f"provider {provider}" for provider in providers))


def lock_owner(records: Records, *client_ids: str) -> None:
    """Hold the webhooks of clients until the transaction ends, because the client and the registry
    of providers both change them."""
    records.lock(*(f"endpoints {client_id}" for client_id in client_ids))


def lock_endpoint(records: Records, *endpoint_ids: str) -> None:
    """Hold endpoints until the transaction ends, because their owner and the deliveries both
    change them."""
    records.lock(*(f"endpoint {endpoint_id}" for endpoint_id in endpoint_ids))


def renew(records: Records, provider: str) -> None:
    """Store the present scopes in the webhooks of every client with this identifier."""
    clients = [client for client in records.clients.all() if provider in client.caller.providers]
    owners = [client.client_id for client in clients]
    lock_owner(records, *owners)
    endpoints = [endpoint for owner in owners for endpoint in records.endpoints.of_owner(owner)]
    lock_endpoint(records, *(endpoint.endpoint_id for endpoint in endpoints))
    for client in clients:
        scopes = joined(current(records, client.caller))
        for endpoint in records.endpoints.of_owner(client.client_id):  # again, under the locks
            records.endpoints.put(replace(endpoint, scopes=scopes))
