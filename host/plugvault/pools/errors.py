"""What a pool refuses, and why."""

from evcc.errors import EvccError


class PoolError(EvccError):
    """A refusal. `detail` is what the caller gets, a message in each line: OPCP's own words where
    it has some."""

    REASONS = ("invalid", "forbidden", "not-found", "conflict", "unavailable")
