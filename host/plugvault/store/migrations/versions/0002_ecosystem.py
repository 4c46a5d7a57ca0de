"""All records of an ecosystem, each chain stored once, and an audit trail that cannot be edited.

The content of the first layout is read at once, because it never held more than a demonstration.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from evcc import exi
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.store.chains import Chain, row_of
from plugvault.store.migrations.layout_0002 import metadata

revision = "0002"
down_revision = "0001"

NO_EDIT = {
    "sqlite": (
        """CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be edited'); END""",
        """CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be edited'); END""",
        # An upsert deletes without asking the trigger above.
        """CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
        WHEN EXISTS (SELECT 1 FROM audit WHERE sequence = NEW.sequence)
        BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be edited'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION audit_no_edit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit trail cannot be edited'; END $$""",
        """CREATE TRIGGER audit_no_edit BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_no_edit()""",
    ),
}


def upgrade() -> None:
    connection = op.get_bind()
    held = {name: _all(connection, name) for name in READ}
    for name in READ:
        op.drop_table(name)
    metadata.create_all(connection)
    for statement in NO_EDIT[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    chains = metadata.tables["chains"]
    numbers: dict[Chain, int] = {}
    for name, read in READ.items():
        for row in map(read, held[name]):
            chain = row.get("chain")
            if chain:
                if chain not in numbers:
                    insert = chains.insert().values(row_of(chain)).returning(chains.c.chain)
                    numbers[chain] = connection.execute(insert).scalar_one()
                row["chain"] = numbers[chain]
            connection.execute(metadata.tables[name].insert().values(row))


def _all(connection: sa.Connection, name: str) -> list[dict[str, Any]]:
    query = sa.select(sa.text("*")).select_from(sa.table(name))
    return [dict(row) for row in connection.execute(query).mappings()]


def _root(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "origin": ""}


def _vehicle(row: Mapping[str, Any]) -> dict[str, Any]:
    subs = [row["sub2"], row["sub1"]] if row["sub2"] else [row["sub1"]]
    certificates = (row["certificate"], *subs, row["root"])
    issuer, serial = path.identity(path.read(row["certificate"]))
    kept = {name: row[name] for name in row if name not in ("sub2", "sub1", "root")}
    return {
        **kept,
        "not_after": min(path.read(der).not_after for der in certificates),
        "issuer": issuer,
        "serial": serial,
        "origin": "",
        "chain": certificates[1:],
    }


def _contract(row: Mapping[str, Any]) -> dict[str, Any]:
    taken = response.read(exi.decode(row["message"]))
    issuer, serial = path.identity(path.read(row["certificate"]))
    chain = (*taken.contract.subs, taken.cps, *taken.cps_subs)
    return {**row, "issuer": issuer, "serial": serial, "chain": chain}


READ = {"roots": _root, "vehicles": _vehicle, "contracts": _contract}
