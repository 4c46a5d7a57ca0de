"""A function in a process of its own: the library of a damaged token can end its process.

    python -m plugvault.tokens.subprocess_probe

The process reads one line of JSON from stdin, {"function": "MODULE:NAME", "arguments": {…}};
arguments may be PINs. It prints {"result": …}, or {"reason", "detail"} of an error. `run` is the
other end.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar, cast

from evcc.errors import EvccError
from evcc.vault import VaultError
from plugvault.tokens.location import TokenLocation

Result = TypeVar("Result")

_TIMEOUT = 120.0  # seconds; a smart card needs some of them to make a key


def run(function: Callable[..., Result], **arguments: Any) -> Result:
    """Call a function of a module in a new process. Its arguments and its result pass as JSON, the
    argument `location` as a `TokenLocation`.

    Raises: VaultError of the function, "refused" in place of another reason; "unavailable" when
    the process ends without a result.
    """
    location: TokenLocation | None = arguments.get("location")
    if location:
        arguments["location"] = asdict(location)
    name = f"{function.__module__}:{function.__qualname__}"
    request = json.dumps({"function": name, "arguments": arguments}, default=str)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "plugvault.tokens.subprocess_probe"],
            input=request.encode(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VaultError("unavailable", f"no answer within {_TIMEOUT:.0f} s") from None
    try:
        answer = json.loads(process.stdout)
    except ValueError:
        causes = "a damaged file does that, or two copies of one token in SoftHSM's folder"
        detail = f"its library ended with {process.returncode}: {causes}"
        raise VaultError("unavailable", detail) from None
    if "result" in answer:
        return cast(Result, answer["result"])
    reason, detail = answer["reason"], answer["detail"]
    if reason not in VaultError.REASONS:  # of the car's store, or of its certificate
        reason, detail = "refused", f"{reason}: {detail}"
    raise VaultError(reason, detail)


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    module, _, name = request["function"].partition(":")
    function, arguments = getattr(importlib.import_module(module), name), request["arguments"]
    if "location" in arguments:
        arguments["location"] = TokenLocation.from_json(arguments["location"])
    try:
        answer = {"result": function(**arguments)}
    except EvccError as error:
        answer = {"reason": error.reason, "detail": error.detail}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
