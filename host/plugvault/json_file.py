"""JSON that comes from outside: of a file, or of another party's message.

`json` itself lets a RecursionError through, and has errors whose text is for programmers. Here
each fault is a JsonError in words for a user. Text is UTF-8, with or without a byte order mark.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Pairs = list[tuple[str, Any]]


class JsonError(ValueError):
    """A text that is no JSON, or is beyond what is read. The text says which."""


def read(file: Path) -> Any:
    """The value in a file. Raises JsonError, OSError."""
    return parse(file.read_bytes())


def parse(text: bytes | str, members: Callable[[Pairs], Any] | None = None) -> Any:
    """The value of a text. members: makes an object of its members, without a ValueError of
    its own; None: a dict. Raises JsonError."""
    try:
        return json.loads(text, object_pairs_hook=members)
    except RecursionError:
        raise JsonError("JSON nested too deep") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error}") from None
    except UnicodeDecodeError:
        raise JsonError("not JSON: no text in UTF-8") from None
    except ValueError:  # the only other one is of the interpreter, about its own setting
        digits = sys.get_int_max_str_digits()
        raise JsonError(f"JSON with a number of more than {digits} digits") from None
