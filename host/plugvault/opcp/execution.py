"""Where an endpoint runs: in the event loop, or in a thread.

A SQLite file and a token in this process answer sooner than a thread starts, so an endpoint that
uses nothing else declares itself `@local` and runs in the event loop. All other endpoints may wait
for PostgreSQL, a partner, another CA or a vault service: FastAPI runs plain functions in threads.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastapi.concurrency import run_in_threadpool

from plugvault.opcp.fields import AppServices
from plugvault.opcp.services import Services

Endpoint = Callable[..., Any]
Condition = Callable[..., bool]


def asks_partners(services: Services, **_: object) -> bool:
    """Whether this ecosystem has partners that it asks when it has no answer itself: a condition
    for `local`."""
    return bool(services.peers and services.peers.linked)


def local(unless: Condition = lambda **_: False) -> Callable[[Endpoint], Endpoint]:
    """A decorator for an endpoint that waits for nothing but this machine's database and tokens:
    it runs in the event loop.

    `unless(**arguments)`: called with the endpoint's arguments, True when this request waits for
    another system. Then, and with a database on another machine, the endpoint runs in a thread.
    """

    def declare(endpoint: Endpoint) -> Endpoint:
        name = _services_parameter(endpoint)

        @wraps(endpoint)
        async def run(**arguments: Any) -> Any:
            services: Services = arguments[name]
            if services.store.is_local and not unless(**arguments):
                return endpoint(**arguments)
            return await run_in_threadpool(endpoint, **arguments)

        return run

    return declare


def _services_parameter(endpoint: Endpoint) -> str:
    parameters = inspect.signature(endpoint, eval_str=True).parameters
    return next(name for name, value in parameters.items() if value.annotation == AppServices)
