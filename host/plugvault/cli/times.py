"""A time as an option of a command."""

import re
import time
from datetime import UTC, datetime

import typer

_FORMS = "2026-01-31, 2026-01-31T12:00:00Z, or Unix seconds of 9 to 11 digits"


def seconds(text: str | None) -> int:
    """Unix seconds of `--at`: 2026-01-31[T12:00:00Z] or Unix seconds; None: now. A time without a
    zone is UTC. Raises typer.BadParameter."""
    if text is None:
        return int(time.time())
    if re.fullmatch("[0-9]{9,11}", text):
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        detail = f"{text[:40]!r} is not a time: {_FORMS}"
        raise typer.BadParameter(detail, param_hint="--at") from error
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
