"""The error of the EXI codec, and its form while it gathers the path of the member."""

from evcc.errors import EvccError


class ExiError(EvccError):
    """Bytes that are no message of the schema, or a message that the schema cannot encode.

    `detail` starts with the path of the member, where there is one.
    """

    REASONS = (
        "header",  # not 0x80: other EXI options, or not EXI
        "truncated",
        "trailing",  # bytes other than zero after the document's end
        "event",  # an event code the grammar does not have, or an abstract element
        "length",  # a length beyond the bytes that remain
        "value",  # out of the type's range, or no value of it
        "bounds",  # more items than the schema allows
        "type",  # a member of the wrong Python or JSON type
        "missing",  # a required member is absent
        "unknown",  # an undeclared member, element or schema
        "unsupported",  # legal EXI that no V2G message uses (wildcards, xsi:type, mixed text)
    )


class Fault(Exception):
    """An ExiError while the path of its member is gathered, from the inner element outwards.

    reason: of `ExiError`. text: for its `detail`, without the path."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__()
        self.reason = reason
        self.text = text
        self.path = ""

    def under(self, name: str) -> None:
        """Add this member to the path ("": the fault is in the element itself)."""
        if name:
            self.path = name + "/" + self.path if self.path else name

    def error(self) -> ExiError:
        """The ExiError with the path so far."""
        return ExiError(self.reason, self.path + ": " + self.text if self.path else self.text)
