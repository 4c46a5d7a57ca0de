"""The clients that get access tokens, registered with their roles and identifiers.

A client's secret is stored as a digest. The secret is long and random, so a fast digest is enough.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace

from plugvault.pools import audit, providers
from plugvault.pools.caller import (
    ADMIN,
    CPO,
    CPS,
    MO_EXTERNAL_PKI,
    MO_HUBJECT_PKI,
    OEM,
    PEER,
    Caller,
    check_name,
)
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Client
from plugvault.pools.repositories import Records

ROLES = (OEM, CPO, MO_EXTERNAL_PKI, MO_HUBJECT_PKI, CPS, ADMIN, PEER)
WMI_PATTERN = "^[A-HJ-NPR-Z0-9]{3}$"  # ISO 3780
OPERATOR_PATTERN = "^[A-Z]{2}[A-Z0-9]{3}$"

LOCKED = "This client is locked; ask the administrator."


def new_credentials() -> tuple[str, str]:
    """A random client_id (32 hexadecimal digits) and client_secret (48). Neither begins with a
    hyphen, so a command line takes both as values."""
    return secrets.token_hex(16), secrets.token_hex(24)


def register(
    records: Records, new: Caller, credentials: tuple[str, str], who: str, now: float
) -> Client:
    """Register a client. `new.client_id` is ignored; `credentials`: client_id and client_secret;
    `who`: the actor for the audit trail.

    Raises PoolError: "invalid" for an unknown role or a malformed identifier, "forbidden" for a
    provider identifier of another company.
    """
    unknown = new.roles - set(ROLES)
    if unknown or not new.roles:
        raise PoolError("invalid", f"roles : must be of {', '.join(ROLES)}")
    check_name(new.name)
    _each("wmis", new.wmis, WMI_PATTERN)
    _each("operators", new.operators, OPERATOR_PATTERN)
    providers.check(records, new.name, new.providers)
    client_id, secret = credentials
    client = Client(
        client_id,
        digest(secret),
        new.name,
        _join(new.roles),
        _join(new.wmis),
        _join(new.providers),
        _join(new.operators),
    )
    records.clients.put(client)
    detail = " ".join(filter(None, (client.roles, client.wmis, client.providers)))
    audit.note(records, who, "client registered", f"{new.name} ({client_id})", detail, now)
    return client


def set_active(records: Records, client_id: str, active: bool, who: str, now: float) -> Client:
    """Lock a client with all its access tokens, or unlock it. Raises PoolError("not-found")."""
    client = records.clients.get(client_id)
    if client is None:
        raise PoolError("not-found", f"There is no client {client_id}.")
    client = replace(client, active=active)
    records.clients.put(client)
    action = "client unlocked" if active else "client locked"
    audit.note(records, who, action, f"{client.name} ({client_id})", "", now)
    return client


def authenticate(records: Records, client_id: str, secret: str) -> Client | None:
    """The client with this secret, locked or not. None for an unknown client_id and for another
    secret."""
    # JSON can contain characters that a database refuses.
    is_plain = client_id.isascii() and client_id.isprintable()
    client = records.clients.get(client_id) if is_plain else None
    stored = client.secret_digest if client else bytes(32)
    return client if hmac.compare_digest(stored, digest(secret)) else None


def digest(secret: str) -> bytes:
    """SHA-256 of a client secret, 32 bytes."""
    # JSON can contain half of a surrogate pair, which UTF-8 cannot encode.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _each(field: str, values: Iterable[str], pattern: str) -> None:
    if not all(re.fullmatch(pattern, value) for value in values):
        raise PoolError("invalid", f'{field} : each must match "{pattern}"')


def _join(values: frozenset[str]) -> str:
    return ",".join(sorted(values))
