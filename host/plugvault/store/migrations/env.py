"""The entry point of alembic: the steps, in the connection's transaction of `store.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
