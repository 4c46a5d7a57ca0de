"""The registry of provider identifiers: the company of each identifier, such as "GBOCT".

An EMAID begins with the identifier, so it names the company behind a contract. In the field EV
Roam issues identifiers in the United Kingdom and Energy Codes & Services in Germany; here an
administrator enters them. A company becomes a client only under its own identifiers.
"""

import re
from collections.abc import Iterable, Sequence

from plugvault.pools import audit, scopes
from plugvault.pools.caller import Caller, check_name
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
    """Enter an identifier, or change its company or its state.

    A company that loses an identifier loses its rights and its events. `registry`: the issuer,
    default: that of the country. Raises PoolError("invalid") for a malformed identifier, a wrong
    name, or a country without a default.
    """
    provider = read_provider(provider)
    registry = registry or REGISTRIES.get(provider[:2])
    if registry is None:
        raise PoolError("invalid", f"registry : must be given, for {provider[:2]} has none here")
    check_name(company)
    entry = Provider(provider, company.strip(), registry, active)
    scopes.lock_provider(records, provider)
    records.providers.put(entry)
    detail = f"{entry.name}, {registry}{'' if active else ', not in use'}"
    audit.note(records, caller.signature, "provider entered", provider, detail, now)
    scopes.renew(records, provider)
    return entry


def get(records: Records, provider: str) -> Provider:
    """The entry of an identifier. Raises PoolError: "invalid" for a malformed one, "not-found"."""
    provider = read_provider(provider)
    entry = records.providers.get(provider)
    if entry is None:
        raise PoolError("not-found", f"The provider identifier {provider} is not registered.")
    return entry


def listed(records: Records, country: str | None = None) -> Sequence[Provider]:
    """All identifiers, or those of one country (two letters)."""
    entries = records.providers.all()
    prefix = country.upper() if country else ""
    return [entry for entry in entries if entry.provider.startswith(prefix)]


def check(records: Records, company: str, identifiers: Iterable[str]) -> None:
    """Raise PoolError("forbidden") unless the registry has all these identifiers under the
    company."""
    identifiers = tuple(identifiers)
    scopes.lock_provider(records, *identifiers)
    for provider in identifiers:
        if not scopes.belongs(records, company, provider):
            raise PoolError(
                "forbidden",
                f"The provider identifier {provider} is not registered for {company}.",
            )


def read_provider(text: str) -> str:
    """Country and provider without the hyphen, in upper case: "GBOCT"."""
    if not re.fullmatch(PROVIDER_PATTERN, text):
        raise PoolError("invalid", f'provider : must match "{PROVIDER_PATTERN}"')
    return text.replace("-", "").upper()
