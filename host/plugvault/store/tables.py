"""The tables, one per record of `plugvault.pools.records`. Columns have the names and the order of
the record's fields; columns that only the store needs follow them.

Further tables: `chains` stores each certificate chain once, `listeners` has the scopes of each
webhook for an index, and `versions` tells whether a cached table is still current, and when a
periodic task ran last. A change here needs a step in `migrations/versions`; a test compares the
two.
"""

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
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER
_SORTED = Text().with_variant(Text(collation="C"), "postgresql")  # an index finds its prefixes


def _key(name: str, kind: Any = Text, **options: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, **options)


def _some(name: str, kind: Any = Text, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


def _where(condition: str) -> dict[str, Any]:
    """The option of an index over a part of its table. A statement uses the index only with the
    same condition."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


roots = Table(
    "roots",
    metadata,
    _key("root_id"),
    _some("kind"),
    _some("certificate", LargeBinary),
    _some("fingerprint"),
    _some("namespace"),
    _some("origin"),
    Index("roots_fingerprint", "fingerprint", unique=True),
)

chains = Table(
    "chains",
    metadata,
    _key("chain", _NUMBER, autoincrement=True),
    _some("digest", LargeBinary),
    _some("certificates", LargeBinary),
    Index("chains_digest", "digest", unique=True),
)

vehicles = Table(
    "vehicles",
    metadata,
    _key("vehicle"),
    _key("namespace"),
    _some("pcid"),
    _some("certificate", LargeBinary),
    _some("v2g_roots"),
    Column("previous_pcid", Text),
    _some("not_after", BigInteger),
    _some("issuer"),
    _some("serial"),
    _some("origin"),
    _some("chain", BigInteger),
    Index("vehicles_not_after", "not_after"),
    Index("vehicles_issuer", "issuer", "serial"),
    Index("vehicles_chain", "chain"),
)

contracts = Table(
    "contracts",
    metadata,
    _key("emaid", _SORTED),
    _key("namespace"),
    _some("vehicle"),
    _some("pcid"),
    _some("certificate", LargeBinary),
    _some("message", LargeBinary),
    _some("root_fingerprint"),
    _some("default", Boolean),
    _some("not_before", BigInteger),
    _some("not_after", BigInteger),
    Column("metadata", Text),
    Column("delivered", BigInteger),
    _some("issuer"),
    _some("serial"),
    _some("chain", BigInteger),
    Index("contracts_vehicle", "vehicle", "namespace"),
    Index("contracts_not_after", "not_after"),
    Index("contracts_issuer", "issuer", "serial"),
    Index("contracts_chain", "chain"),
)

REVOKED = "revoked IS NOT NULL"
statuses = Table(
    "statuses",
    metadata,
    _key("issuer"),
    _key("serial"),
    _some("subject"),
    _some("not_after", BigInteger),
    Column("revoked", BigInteger),
    _some("reason"),
    Index("statuses_revoked", "not_after", **_where(REVOKED)),
    Index("statuses_revoked_by", "issuer", **_where(REVOKED)),
)

seen = Table(
    "seen",
    metadata,
    _key("mark", LargeBinary),
    _some("holds", LargeBinary),
    _some("of_key", LargeBinary),
    _some("until", BigInteger),
    Index("seen_until", "until"),
    sqlite_with_rowid=False,  # the table is the index of its hashes
)

clients = Table(
    "clients",
    metadata,
    _key("client_id"),
    _some("secret_digest", LargeBinary),
    _some("name"),
    _some("roles"),
    _some("wmis"),
    _some("providers"),
    _some("operators"),
    _some("active", Boolean),
)

endpoints = Table(
    "endpoints",
    metadata,
    _key("endpoint_id"),
    _some("owner"),
    _some("owner_name"),
    _some("role"),
    _some("scopes"),
    _some("url"),
    _some("events"),
    _some("created", BigInteger),
    _some("enabled", Boolean),
    _some("api_version"),
    _some("description"),
    _some("metadata"),
    Index("endpoints_owner", "owner"),
)

listeners = Table(
    "listeners",
    metadata,
    _key("scope"),
    _key("endpoint_id"),
    Index("listeners_endpoint", "endpoint_id"),
)

events = Table(
    "events",
    metadata,
    _some("event_id"),
    _some("kind"),
    _some("at", BigInteger),
    _some("audience"),
    _some("payload"),
    _some("vehicle"),
    _some("namespace"),
    _key("sequence", _NUMBER, autoincrement=True),
    Index("events_event_id", "event_id", unique=True),
    Index("events_audience", "audience", "sequence"),
)

PENDING = "state = 'pending'"
deliveries = Table(
    "deliveries",
    metadata,
    _some("event_id"),
    _some("endpoint_id"),
    _some("vehicle"),
    _some("state"),
    _some("attempts", Integer),
    _some("due", Float),
    _some("lease", Float),
    _some("outcome"),
    _some("sequence", BigInteger),
    PrimaryKeyConstraint("endpoint_id", "event_id"),
    Index("deliveries_due", "endpoint_id", "due", "sequence", **_where(PENDING)),
    Index("deliveries_order", "endpoint_id", "vehicle", "sequence", **_where(PENDING)),
    Index("deliveries_latest", "endpoint_id", "sequence"),
    Index("deliveries_state", "endpoint_id", "state", "sequence"),
)

audit = Table(
    "audit",
    metadata,
    _some("at", BigInteger),
    _some("who"),
    _some("action"),
    _some("subject"),
    _some("detail"),
    _key("sequence", _NUMBER, autoincrement=True),
    _some("digest"),
)

changes = Table(
    "root_changes",
    metadata,
    _key("change_id"),
    _some("action"),
    _some("kind"),
    _some("certificate", LargeBinary),
    _some("root_id"),
    _some("asked_by"),
    _some("asked", BigInteger),
    _some("state"),
    _some("decided_by"),
    Column("decided", BigInteger),
)

entities = Table(
    "end_entities",
    metadata,
    _key("common_name"),
    _some("owner"),
    _some("body"),
    _some("created", BigInteger),
    Index("end_entities_owner", "owner"),
)

registry = Table(
    "registered_vehicles",
    metadata,
    _key("vin"),
    Column("plate", Text),
    _some("pcid"),
    _some("document_digest", LargeBinary),
    Index("registered_vehicles_plate", "plate", unique=True),
    Index("registered_vehicles_pcid", "pcid", unique=True),
)

guesses = Table(
    "guesses",
    metadata,
    _key("who"),
    _key("subject"),
    _some("wrong", Integer),
    _some("last", BigInteger),
)

providers = Table(
    "providers",
    metadata,
    _key("provider"),
    _some("name"),
    _some("registry"),
    _some("active", Boolean),
)

peers = Table(
    "peers",
    metadata,
    _key("name"),
    _some("url"),
    _some("state"),
    _some("since", BigInteger),
    _some("client_id"),
)

WAITING = "state = 'waiting'"
jobs = Table(
    "jobs",
    metadata,
    _key("job_id"),
    _some("kind"),
    _some("subject"),
    _some("asked_by"),
    _some("asked", BigInteger),
    _some("state"),
    _some("done", BigInteger),
    _some("lease", Float),
    Index("jobs_waiting", "asked", **_where(WAITING)),
)

versions = Table("versions", metadata, _key("name"), _some("number", BigInteger))
