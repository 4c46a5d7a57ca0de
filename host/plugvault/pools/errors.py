"""The refusals of the pools."""

from evcc.errors import EvccError


class PoolError(EvccError):
    """A refusal. `detail`: the messages for the caller, one in each line, in OPCP's own words
    where OPCP has some."""

    REASONS = ("invalid", "forbidden", "not-found", "conflict", "unavailable")


class UnknownRootError(PoolError):
    """The path of a contract certificate leads to no root in RCP. A partner may have the root."""
