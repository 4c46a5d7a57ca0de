"""The DH points and contract keys of the contracts that are kept, so that no other has them.

Of two that have one already, the older has it from now on.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from alembic import op

from evcc import exi
from plugvault.contract.iso15118_2 import response
from plugvault.pools import envelopes
from plugvault.store.rows import INSERT

revision = "0003"
down_revision = "0002"

BATCH = 500  # contracts
_COLUMNS = ("emaid", "message", "not_before", "not_after")
_CONTRACTS = sa.table("contracts", *map(sa.column, _COLUMNS))


def upgrade() -> None:
    seen = op.create_table(
        "seen",
        sa.Column("mark", sa.LargeBinary, primary_key=True),
        sa.Column("holds", sa.LargeBinary, nullable=False),
        sa.Column("of_key", sa.LargeBinary, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("seen_until", "seen", ["until"])
    connection = op.get_bind()
    insert = INSERT[connection.dialect.name](seen).on_conflict_do_nothing()
    oldest_first = sa.select(_CONTRACTS).order_by("not_before", "emaid")
    found = connection.execute(oldest_first.execution_options(yield_per=BATCH))
    for batch in found.mappings().partitions():
        connection.execute(insert, [one for row in batch for one in _seen(row)])


def _seen(row: sa.RowMapping) -> Iterator[dict[str, Any]]:
    data = response.read(exi.decode(row["message"])).contract
    until = max(row["not_after"], row["not_before"] + envelopes.LEAST)
    return map(vars, envelopes.seen(replace(data, emaid=row["emaid"]), until))
