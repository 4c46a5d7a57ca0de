"""Fuzz target: `plugvault inspect` on any bytes."""

import json
import sys
from functools import cache
from pathlib import Path

from plugvault.inspection import inspect
from plugvault.inspection.report import Scope, UnreadableError

sys.path.append(str(Path(__file__).parents[1]))
from world import NOW, World, point


@cache
def seeds() -> list[bytes]:
    world = World()
    response = world.response(point(world.contract_key))
    bundle = {"CCPResponse": {"emaidContent": [{"messageDef": {"emaid": "x"}}]}}
    return [
        response,
        b"\x01\xfe\x80\x01" + len(response).to_bytes(4, "big") + response,
        response.hex().encode(),
        world.contract.der,
        b"".join(world.contract.chain),
        json.dumps(bundle).encode(),
        b'<?xml version="1.0"?><V2G_Message xmlns="urn:iso:15118:2:2013:MsgDef"/>',
    ]


def target(data: bytes) -> None:
    """A report that can be printed as JSON, or UnreadableError."""
    try:
        report = inspect(data, Scope(NOW))
    except UnreadableError:
        return
    json.dumps(report.content)
    if not isinstance(report.ok, bool):
        raise AssertionError("no verdict")
