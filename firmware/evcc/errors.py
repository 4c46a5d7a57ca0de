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
