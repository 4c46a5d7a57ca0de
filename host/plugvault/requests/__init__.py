"""A collection of HTTP requests for each business process, for users and tests.

The `.http` files are in the format of VS Code's REST Client: requests between lines of `###`, `#
@name` to refer to an answer, `{{variable}}`; the comment `# @expect STATUS` is this project's own.
JetBrains' HTTP client refers to an answer in another way, which REST Client would send. `values`
makes the values that a user cannot type: signed requests, sealed keys. `write` puts files and
values into a folder, and `run` carries the files out.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

PARTNERS = "13-federation.http"  # only for more than one ecosystem


def collection() -> list[Traversable]:
    """The files, in their order."""
    http_files = [file for file in files(__package__).iterdir() if file.name.endswith(".http")]
    return sorted(http_files, key=lambda file: file.name)
