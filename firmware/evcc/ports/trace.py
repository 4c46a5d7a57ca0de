"""The trace of a network connection: its bytes and its TLS keys, from which a capture is made.

For tests: such a file decrypts every recorded session, and a car never writes one. Each line is
JSON: {"at": unix seconds, "kind": "datagram" | "wire" | "keys" | "ends", "out": sent by the car,
"data": hex or text}. "ends": {"address", "port"} of the station. A failure to write ends the
trace, and never a session.
"""

import json
import os
import time

_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0


class Trace:
    """path: a new file, or one to append to, which its owner alone can read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_broken = False
        if hasattr(os, "umask"):
            os.umask(0o077)  # pyright: ignore[reportAttributeAccessIssue]

    def datagram(self, is_out: bool, data: bytes) -> None:
        """Add a datagram of SDP. is_out: whether the car sent it."""
        self._add({"kind": "datagram", "out": is_out, "data": data.hex()})

    def ends(self, address: str, port: int) -> None:
        """Add the station's address and TCP port, at the beginning of a connection."""
        self._add({"kind": "ends", "address": address, "port": port})

    def wire(self, is_out: bool, data: bytes) -> None:
        """Add bytes of the TCP connection, unchanged. is_out: whether the car sent them."""
        self._add({"kind": "wire", "out": is_out, "data": data.hex()})

    def keys(self, line: str) -> None:
        """Add a line of TLS secrets in the format of SSLKEYLOGFILE."""
        self._add({"kind": "keys", "data": line})

    def _add(self, entry: dict) -> None:
        if self._is_broken:
            return
        entry["at"] = time.time() + _EPOCH
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError:
            self._is_broken = True
