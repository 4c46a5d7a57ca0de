"""The one error of the EXI codec, and what it is while it finds out where it happened."""

from evcc.errors import EvccError


class ExiError(EvccError):
    """The bytes are not a message of the schema, or the message is not one it can write.

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
        "missing",  # a required member is not there
        "unknown",  # a member, element or schema nobody declared
        "unsupported",  # legal EXI that no V2G message uses (wildcards, xsi:type, mixed text)
        "memory",
    )


class Fault(Exception):
    """An ExiError on its way up, gathering the path of the member."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__()
        self.reason = reason
        self.text = text
        self.path = ""

    def under(self, name: str) -> None:
        """It happened below this member (empty: in this one itself)."""
        if name:
            self.path = name + "/" + self.path if self.path else name

    def error(self) -> ExiError:
        return ExiError(self.reason, self.path + ": " + self.text if self.path else self.text)
