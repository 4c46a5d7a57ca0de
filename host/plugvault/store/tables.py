"""The tables, one per record of `plugvault.pools.records`, columns named as its fields."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

_PCID, _ID, _KEY, _NAME = String(64), String(36), String(64), String(255)
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER


def _key(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, **options)


def _some(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


roots = Table(
    "roots",
    metadata,
    _key("root_id", _ID),
    _some("kind", String(3)),
    _some("certificate", LargeBinary),
    _some("fingerprint", _KEY, unique=True),
    _some("namespace", String(64)),
    _some("origin", _NAME),
)

vehicles = Table(
    "vehicles",
    metadata,
    _key("vehicle", _PCID),
    _key("namespace", String(64)),
    _some("pcid", _PCID),
    _some("certificate", LargeBinary),
    Column("sub2", LargeBinary),
    _some("sub1", LargeBinary),
    _some("root", LargeBinary),
    _some("v2g_roots", Text),
    Column("previous_pcid", _PCID),
    _some("not_after", BigInteger, index=True),
    _some("issuer", _KEY),
    _some("serial", _KEY),
    _some("origin", _NAME),
    Index("vehicles_issuer", "issuer", "serial"),
)

contracts = Table(
    "contracts",
    metadata,
    _key("emaid", _ID),
    _key("namespace", String(64)),
    _some("vehicle", _PCID),
    _some("pcid", _PCID),
    _some("certificate", LargeBinary),
    _some("message", LargeBinary),
    _some("root_fingerprint", _KEY),
    _some("default", Boolean),
    _some("not_before", BigInteger),
    _some("not_after", BigInteger, index=True),
    Column("metadata", Text),
    Column("delivered", BigInteger),
    _some("issuer", _KEY),
    _some("serial", _KEY),
    Index("contracts_of_vehicle", "vehicle", "namespace"),
    Index("contracts_issuer", "issuer", "serial"),
)

statuses = Table(
    "statuses",
    metadata,
    _key("issuer", _KEY),
    _key("serial", _KEY),
    _some("subject", _NAME),
    _some("not_after", BigInteger),
    Column("revoked", BigInteger),
    _some("reason", String(32)),
)

clients = Table(
    "clients",
    metadata,
    _key("client_id", _KEY),
    _some("secret_digest", LargeBinary),
    _some("name", _NAME),
    _some("roles", Text),
    _some("wmis", Text),
    _some("providers", Text),
    _some("operators", Text),
    _some("active", Boolean),
)

endpoints = Table(
    "endpoints",
    metadata,
    _key("endpoint_id", _ID),
    _some("owner", _KEY, index=True),
    _some("owner_name", _NAME),
    _some("role", String(32)),
    _some("scopes", Text),
    _some("url", Text),
    _some("events", Text),
    _some("created", BigInteger),
    _some("enabled", Boolean),
    _some("api_version", String(16)),
    _some("description", Text),
    _some("metadata", Text),
)

events = Table(
    "events",
    metadata,
    _key("sequence", _NUMBER, autoincrement=True),
    _some("event_id", _ID, unique=True),
    _some("kind", String(64)),
    _some("at", BigInteger),
    _some("audience", String(16)),
    _some("payload", Text),
    _some("vehicle", _PCID),
    _some("namespace", String(64)),
    Index("events_audience", "audience", "sequence"),
)

deliveries = Table(
    "deliveries",
    metadata,
    _key("event_id", _ID),
    _key("endpoint_id", _ID),
    _some("vehicle", _PCID),
    _some("state", String(16)),
    _some("attempts", Integer),
    _some("due", Float),
    _some("lease", Float),
    _some("outcome", Text),
    Index("deliveries_due", "state", "due"),
    Index("deliveries_order", "endpoint_id", "vehicle", "state"),
)

audit = Table(
    "audit",
    metadata,
    _key("sequence", _NUMBER, autoincrement=True),
    _some("at", BigInteger),
    _some("who", _NAME),
    _some("action", String(64)),
    _some("subject", Text),
    _some("detail", Text),
    _some("digest", _KEY),
)

changes = Table(
    "root_changes",
    metadata,
    _key("change_id", _ID),
    _some("action", String(16)),
    _some("kind", String(3)),
    _some("certificate", LargeBinary),
    _some("root_id", _ID),
    _some("asked_by", _KEY),
    _some("asked", BigInteger),
    _some("state", String(16)),
    _some("decided_by", _KEY),
    Column("decided", BigInteger),
)

entities = Table(
    "end_entities",
    metadata,
    _key("common_name", _NAME),
    _some("owner", _KEY, index=True),
    _some("body", Text),
    _some("created", BigInteger),
)

registry = Table(
    "registered_vehicles",
    metadata,
    _key("vin", String(32)),
    Column("plate", String(32), unique=True),
    _some("pcid", _PCID, unique=True),
    _some("document_digest", LargeBinary),
)

guesses = Table(
    "guesses",
    metadata,
    _key("who", _KEY),
    _key("subject", _NAME),
    _some("wrong", Integer),
    _some("last", BigInteger),
)

providers = Table(
    "providers",
    metadata,
    _key("provider", String(8)),
    _some("name", _NAME),
    _some("registry", _NAME),
    _some("active", Boolean),
)

peers = Table(
    "peers",
    metadata,
    _key("name", _NAME),
    _some("url", Text),
    _some("state", String(16)),
    _some("since", BigInteger),
    _some("client_id", _KEY),
)

jobs = Table(
    "jobs",
    metadata,
    _key("job_id", _ID),
    _some("kind", String(32)),
    _some("subject", _NAME),
    _some("asked_by", _KEY),
    _some("asked", BigInteger),
    _some("state", String(16), index=True),
    _some("done", BigInteger),
    _some("lease", Float),
)
