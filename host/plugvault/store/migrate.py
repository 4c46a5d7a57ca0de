"""Migrate a database to the layout of `tables` [alembic].

Several processes may open a new database at the same time: one of them migrates it, the others
wait. A step is one transaction. There is no downgrade. A database from before the first step is
migrated too; one of a later plugvault is refused, and so is one that no step can read.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from evcc.errors import EvccError
from plugvault.store import tables

LATEST = "0003"

_CONTENT = ("SQLITE_ERROR", "SQLITE_NOTADB", "SQLITE_CORRUPT")  # SQLite's names: of a wrong layout

_LOCK = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": ("BEGIN", "SELECT pg_advisory_xact_lock(7, 1)"),
}


class NewerDatabaseError(EvccError):
    """A database that this version of plugvault must not use."""

    REASONS = ("newer",)


class UnknownDatabaseError(EvccError):
    """A database that no step can bring to this layout. It is unchanged."""

    REASONS = ("unknown",)


def migrate(engine: Engine) -> None:
    """Bring a database to the layout of this version.

    Raises NewerDatabaseError("newer"), UnknownDatabaseError("unknown"), and the driver's error of
    a database that cannot be used now.
    """
    try:
        _migrate(engine)
    except Exception as error:
        if isinstance(error, NewerDatabaseError) or _is_unusable(error):
            raise
        cause = f"{type(error).__name__} {str(error).partition(chr(10))[0]}"
        detail = (
            f"The database {without_secrets(engine.url)} is of no known plugvault, or damaged"
            f" ({cause}). It is unchanged: use the plugvault that made it, or another database or"
            " --data folder."
        )
        raise UnknownDatabaseError("unknown", detail) from error


def without_secrets(url: URL) -> str:
    """A database's URL for a person: libpq takes a password in two places."""
    return url.difference_update_query(["password", "sslpassword"]).render_as_string()


def _is_unusable(error: Exception) -> bool:
    """Whether the database cannot be used now, and its content is not the cause."""
    if not isinstance(error, DBAPIError) or isinstance(error, ProgrammingError | IntegrityError):
        return False
    return getattr(error.orig, "sqlite_errorname", "") not in _CONTENT


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if _revision(connection) == LATEST:
            return
        connection.rollback()
        for statement in _LOCK[engine.dialect.name]:
            connection.exec_driver_sql(statement)
        revision = _revision(connection)  # another process may just have migrated it
        revisions = {step.revision for step in ScriptDirectory(_scripts()).walk_revisions()}
        if revision is not None and revision not in revisions:
            detail = (
                f"The database was last used by a later plugvault ({revision}): use that one, or"
                " another database or --data folder."
            )
            raise NewerDatabaseError("newer", detail)
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", _scripts().replace("%", "%%"))
        command.upgrade(config, "head")
        _check_columns(connection)
        connection.commit()


def _check_columns(connection: Connection) -> None:
    """A step leaves a table as it is that was there before under the same name."""
    seen = inspect(connection)
    for table in tables.metadata.sorted_tables:
        there = {column["name"] for column in seen.get_columns(table.name)}
        if missing := {column.name for column in table.columns} - there:
            raise ValueError(f"its table {table.name} has no column {min(missing)}")


def _scripts() -> str:
    return str(Path(__file__).parent / "migrations")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if version is None else str(version)
