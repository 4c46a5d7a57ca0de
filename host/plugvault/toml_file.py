"""TOML in a user's file, each fault in words for a user; see `json_file`."""

import sys
import tomllib
from pathlib import Path
from typing import Any


class TomlError(ValueError):
    """A file that is no TOML, or is beyond what is read. The text says why."""


def read(file: Path) -> dict[str, Any]:
    """The content of a file. Raises TomlError, OSError."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise TomlError("no text in UTF-8") from None
    except RecursionError:
        raise TomlError("nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise TomlError(str(error)) from None
    except ValueError:  # the only other one is of the interpreter, about its own setting
        digits = sys.get_int_max_str_digits()
        raise TomlError(f"a number of more than {digits} digits") from None
