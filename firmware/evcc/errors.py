"""The one shape of error in the module: a reason from a closed list, and a word for a person.

Each boundary (EXI, certificates, vault, ...) has one subclass, in its own module, with its own
`REASONS`. Code and tests look at `reason`; people read `detail`. Neither may carry a secret.
"""


class EvccError(Exception):
    """Base of every error the module raises on purpose.

    `reason`: one of the subclass's `REASONS`. `detail`: what happened, for a person.
    """

    REASONS: tuple = ()

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in self.REASONS:
            raise ValueError("not a reason of this boundary: " + reason)
        super().__init__(reason + ": " + detail if detail else reason)
        self.reason = reason
        self.detail = detail
