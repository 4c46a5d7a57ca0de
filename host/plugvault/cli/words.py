"""The words of an error for a user, without Python's numbers and names of classes."""

from evcc.errors import EvccError


def of(error: Exception) -> str:
    """The text of an error: the detail of one of our own classes; file and cause of an OSError."""
    if isinstance(error, EvccError):
        return error.detail or error.reason
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
