"""The sessions of a capture as another capture, without TLS: for tools that have no keys."""

import io
from pathlib import Path

from evcc.link import v2gtp
from plugvault.capture import Capture, packets
from plugvault.capture.layers import host
from plugvault.inspection.conversation import Contents, Search, Spoken, read


def write_plain(data: bytes, keylog: bytes, path: Path) -> str:
    """Write every message of the capture `data` into `path`, with its time and its two ends.

    keylog: the text of a TLS key log. Returns the reason why the result is not complete, or "".
    Raises OSError, CaptureError.
    """
    contents = read(io.BytesIO(data), keylog)
    now = [0]
    with Capture(path, has_keys=False, clock=lambda: now[0]) as capture:
        connections = [
            capture.connection(_address(told.connection.client), _address(told.connection.server))
            for told in contents.conversations
        ]
        for time, number, item in _in_order(contents):
            now[0] = time
            if isinstance(item, Search):
                ends = _address(item.source), _address(item.destination)
                capture.datagram(*ends, item.data)
            else:
                frame = v2gtp.encode(item.payload, item.payload_type)
                connections[number].wire("out" if item.by_client else "in", frame)
        for connection in connections:
            connection.close()
    return capture.ended


def _in_order(contents: Contents) -> list[tuple[int, int, Spoken | Search]]:
    """(time, number of the conversation, message) of all messages; -1 for a search."""
    items: list[tuple[int, int, Spoken | Search]] = [
        (search.time, -1, search) for search in contents.searches
    ]
    for number, told in enumerate(contents.conversations):
        items += [(spoken.time, number, spoken) for spoken in told.spoken]
    return sorted(items, key=lambda item: item[0])


def _address(end: packets.Endpoint) -> packets.Address:
    return host(end), end[1]
