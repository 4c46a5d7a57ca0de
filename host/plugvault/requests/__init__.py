"""A collection of HTTP requests that walks through each business process, for people and tests.

The `.http` files here are what VS Code's REST Client reads: requests between lines of `###`,
`# @name` to refer to an answer, `{{variable}}`, and as a comment of our own `# @expect STATUS`.
JetBrains' HTTP client has another way to refer to an answer, which REST Client would send along.
`values` makes what a person cannot type: signed requests, sealed keys; `write` puts files and
values into a folder; `run` carries the files out.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

PARTNERS = "13-federation.http"  # only where there is more than one ecosystem


def collection() -> list[Traversable]:
    """The files, in their order."""
    found = files(__package__).iterdir()
    return sorted(
        (file for file in found if file.name.endswith(".http")), key=lambda file: file.name
    )
