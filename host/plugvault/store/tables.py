"""The tables, one per record of `plugvault.pools.records`, columns named as its fields."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

roots = Table(
    "roots",
    metadata,
    Column("root_id", String(36), primary_key=True),
    Column("kind", String(3), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("namespace", String(64), nullable=False),
)

vehicles = Table(
    "vehicles",
    metadata,
    Column("vehicle", String(64), primary_key=True),
    Column("namespace", String(64), primary_key=True),
    Column("pcid", String(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("sub2", LargeBinary),
    Column("sub1", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("v2g_roots", Text, nullable=False),
    Column("previous_pcid", String(64)),
)

contracts = Table(
    "contracts",
    metadata,
    Column("emaid", String(36), primary_key=True),
    Column("namespace", String(64), primary_key=True),
    Column("vehicle", String(64), nullable=False),
    Column("pcid", String(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("root_fingerprint", String(64), nullable=False),
    Column("default", Boolean, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("metadata", Text),
    Column("delivered", BigInteger),
    Index("contracts_of_vehicle", "vehicle", "namespace"),
)
