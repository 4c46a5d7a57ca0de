"""The registry of provider identifiers: which company a country's authority gave "GBOCT" to.

An EMAID begins with the identifier, so it says who answers for a contract. In the field EV Roam
gives identifiers out in the United Kingdom and Energy Codes & Services in Germany; here an
administrator enters what they have given. Nobody becomes a client of this ecosystem under an
identifier that is not theirs.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from plugvault.pools import audit
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provider
from plugvault.pools.repositories import Records

REGISTRIES = {"GB": "EV Roam", "DE": "Energy Codes & Services"}
PROVIDER_PATTERN = "^[A-Za-z]{2}-?[A-Za-z0-9]{3}$"


def enter(
    records: Records,
    caller: Caller,
    provider: str,
    company: str,
    now: float,
    *,
    registry: str | None = None,
    active: bool = True,
) -> Provider:
    """Enter an identifier, or change its company or whether it is in use: who has it no more acts
    for it no more, and hears no more of it.

    `registry`: who gave it out; that of the country when not given. Raises PoolError.
    """
    provider = read_provider(provider)
    registry = registry or REGISTRIES.get(provider[:2])
    if registry is None:
        raise PoolError("invalid", f"registry : must be given, for {provider[:2]} has none here")
    if not company.strip():
        raise PoolError("invalid", "name : must be given")
    entry = Provider(provider, company.strip(), registry, active)
    records.providers.put(entry)
    detail = f"{entry.name}, {registry}{'' if active else ', not in use'}"
    audit.note(records, caller.signature, "provider entered", provider, detail, now)
    for client in records.clients.all():
        if provider in client.caller.providers:
            theirs = current(records, client.caller)
            scopes = ",".join(sorted(theirs.wmis | theirs.providers))
            for endpoint in records.endpoints.of_owner(client.client_id):
                records.endpoints.put(replace(endpoint, scopes=scopes))
    return entry


def get(records: Records, provider: str) -> Provider:
    """Raises PoolError("not-found")."""
    provider = read_provider(provider)
    found = records.providers.get(provider)
    if found is None:
        raise PoolError("not-found", f"The provider identifier {provider} is given to nobody.")
    return found


def listed(records: Records, country: str | None = None) -> Sequence[Provider]:
    """All identifiers, or those of one country."""
    entries = records.providers.all()
    return [e for e in entries if not country or e.provider.startswith(country.upper())]


def check(records: Records, company: str, wanted: Iterable[str]) -> None:
    """Whether a company may be a client under these identifiers. Raises PoolError("forbidden")."""
    for provider in wanted:
        if not _belongs(records, company, provider):
            raise PoolError(
                "forbidden",
                f"{provider} is not given to {company} in the registry of provider identifiers.",
            )


def current(records: Records, caller: Caller) -> Caller:
    """A client without the identifiers that are its company's no more."""
    held = caller.providers
    kept = frozenset(one for one in held if _belongs(records, caller.name, one))
    return caller if kept == held else replace(caller, providers=kept)


def _belongs(records: Records, company: str, provider: str) -> bool:
    found = records.providers.get(provider)
    return found is not None and found.active and found.name.casefold() == company.casefold()


def read_provider(text: str) -> str:
    """Country and provider without the hyphen, in upper case: "GBOCT"."""
    if not re.fullmatch(PROVIDER_PATTERN, text):
        raise PoolError("invalid", f'provider : must match "{PROVIDER_PATTERN}"')
    return text.replace("-", "").upper()
