"""Charging stations of one operator, in a process of their own, for `cars_at_once.py`.

    cars_at_once_stations.py < orders

`orders`: one line of JSON: "url" of the ecosystem, "credentials" of the operator's client,
"stations". Prints the ports, one line of JSON, and runs until stdin ends.
"""

import asyncio
import json
import logging
import sys
import threading
from typing import Any

from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.cpo import ChargePointOperator
from plugvault.station import Offer, Station, StationSettings


async def run(orders: dict[str, Any], operator: ChargePointOperator) -> None:
    roots, settings = operator.roots(), StationSettings(insecure_contract=True)
    stations = [
        Station(Offer(), roots, operator.fetch_contract, settings)
        for _ in range(orders["stations"])
    ]
    for station in stations:
        await station.start()
    print(json.dumps([station.port for station in stations]), flush=True)
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_the_end_of_stdin() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_end_of_stdin, daemon=True).start()
    await ended.wait()
    for station in stations:
        await station.close()


def main() -> None:
    logging.disable(logging.WARNING)  # the rows have the number of cars without a contract
    orders = json.loads(sys.stdin.readline())
    with OpcpClient(orders["url"], Credentials(**orders["credentials"])) as client:
        asyncio.run(run(orders, ChargePointOperator(client)))


if __name__ == "__main__":
    main()
