"""The refusals of the pools."""

from evcc.errors import EvccError
from plugvault.pools.refusals import CAUSES


class PoolError(EvccError):
    """A refusal. `reason`: "invalid", "forbidden", "not-found", "conflict" or "unavailable";
    `detail`: the messages for the caller, one in each line, in OPCP's own words where OPCP has
    some."""

    REASONS = ("invalid", "forbidden", "not-found", "conflict", "unavailable")


class WithheldError(PoolError):
    """A contract that CCP does not give out. `detail` is the same for every cause, so that no
    caller learns what exists.

    For the operator of the ecosystem: `cause`, of `refusals.CAUSES`, and `circumstances`.
    """

    def __init__(self, detail: str, cause: str, circumstances: str = "") -> None:
        if cause not in CAUSES:
            raise ValueError("not a cause: " + cause)
        super().__init__("not-found", detail)
        self.cause, self.circumstances = cause, circumstances


class UnknownRootError(PoolError):
    """The path of a contract certificate leads to no root in RCP. A partner may have the root."""
