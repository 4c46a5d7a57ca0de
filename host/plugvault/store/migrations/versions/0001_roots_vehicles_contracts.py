"""The first layout: roots, vehicles and contracts. Databases of then say no revision."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("roots"):
        return
    op.create_table(
        "roots",
        sa.Column("root_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(3), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
        sa.Column("namespace", sa.String(64), nullable=False),
    )
    op.create_table(
        "vehicles",
        sa.Column("vehicle", sa.String(64), primary_key=True),
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("pcid", sa.String(64), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("sub2", sa.LargeBinary),
        sa.Column("sub1", sa.LargeBinary, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("v2g_roots", sa.Text, nullable=False),
        sa.Column("previous_pcid", sa.String(64)),
    )
    op.create_table(
        "contracts",
        sa.Column("emaid", sa.String(36), primary_key=True),
        sa.Column("namespace", sa.String(64), primary_key=True),
        sa.Column("vehicle", sa.String(64), nullable=False),
        sa.Column("pcid", sa.String(64), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.Column("root_fingerprint", sa.String(64), nullable=False),
        sa.Column("default", sa.Boolean, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.Text),
        sa.Column("delivered", sa.BigInteger),
    )
    op.create_index("contracts_of_vehicle", "contracts", ["vehicle", "namespace"])
