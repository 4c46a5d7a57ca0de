"""Migrate a database to the layout of `tables` [alembic].

Several processes may open a new database at the same time: one of them migrates it, the others
wait. A step is one transaction. There is no downgrade. A database from before the first step is
migrated too; one of a later plugvault is refused.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from evcc.errors import EvccError

LATEST = "0003"

_LOCK = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": ("BEGIN", "SELECT pg_advisory_xact_lock(7, 1)"),
}


class NewerDatabaseError(EvccError):
    """A database that this version of plugvault must not use."""

    REASONS = ("newer",)


def migrate(engine: Engine) -> None:
    """Raises NewerDatabaseError("newer")."""
    with engine.connect() as connection:
        if _revision(connection) == LATEST:
            return
        connection.rollback()
        for statement in _LOCK[engine.dialect.name]:
            connection.exec_driver_sql(statement)
        revision = _revision(connection)  # another process may just have migrated it
        revisions = {step.revision for step in ScriptDirectory(_scripts()).walk_revisions()}
        if revision is not None and revision not in revisions:
            raise NewerDatabaseError(
                "newer", f"The database was last used by a later plugvault ({revision})."
            )
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", _scripts().replace("%", "%%"))
        command.upgrade(config, "head")
        connection.commit()


def _scripts() -> str:
    return str(Path(__file__).parent / "migrations")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if version is None else str(version)
