"""The form of all errors in the module: a reason from a closed list, and a detail for a person.

Each boundary (EXI, certificates, vault, ...) has one subclass, in its own module, with its own
`REASONS`. Code and tests use `reason`; people read `detail`. Neither may contain a secret.
"""


class EvccError(Exception):
    """Base of every error that the module raises on purpose.

    `reason`: one of the subclass's `REASONS`. `detail`: a description for a person.
    """

    REASONS: tuple = ()

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in self.REASONS:
            raise ValueError("not a reason of this boundary: " + reason)
        super().__init__(reason + ": " + detail if detail else reason)
        self.reason = reason
        self.detail = detail


# Reasons of temporary failures: the same request may succeed later.
PASSING = ("clock", "resources", "storage", "limited", "unavailable", "token-missing")


def reason_of(error: Exception) -> str:
    """The reason to report for any error: an EvccError's own, or its cause's where that is in
    PASSING; "resources" where heap, stack, flash or token is full; "internal" for a bug."""
    if isinstance(error, EvccError):
        cause = getattr(getattr(error, "cause", None), "reason", "")
        if error.reason in ("storage", "vault") and cause == "full":
            return "resources"
        return cause if cause in PASSING else error.reason
    is_stack = isinstance(error, RuntimeError) and "recursion" in str(error)
    return "resources" if is_stack or isinstance(error, MemoryError) else "internal"


def text_of(error: Exception) -> str:
    """The text of an error for the log; of a bug its type alone, as its text may hold a secret."""
    return str(error) if isinstance(error, EvccError) else type(error).__name__
