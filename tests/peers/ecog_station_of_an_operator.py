"""EcoG's station, unmodified, with its hook for an operator's backend filled in.

EcoG's Python runs this file, and USE_CPO_BACKEND=true has the station call the hook. It sends the
vehicle's request, as base64 in a line, to the Unix socket OPERATOR, and reads the answer likewise.
"""

from __future__ import annotations

import asyncio
import os

from iso15118.secc import main
from iso15118.secc.controller.simulator import SimEVSEController


class Controller(SimEVSEController):
    """The simulator, with the operator's backend in place of a simulated one."""

    async def get_15118_ev_certificate(
        self, base64_encoded_cert_installation_req: str, namespace: str
    ) -> str:
        reader, writer = await asyncio.open_unix_connection(os.environ["OPERATOR"])
        writer.write(base64_encoded_cert_installation_req.encode() + b"\n")
        answer = await reader.readline()
        writer.close()
        return answer.decode().strip()


if __name__ == "__main__":
    main.SimEVSEController = Controller
    main.run()
