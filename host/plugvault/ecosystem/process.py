"""One process of an ecosystem: `python -m plugvault.ecosystem.process FD` [`plugvault.processes`].

It answers on the listening socket FD, which it shares with its siblings, or delivers events. Its
tokens and certificates are those of the folder in its orders, its records those of the database.
"""

import gc
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from plugvault.ecosystem import assembly, background, server
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.folder import Folder
from plugvault.ecosystem.links import Links
from plugvault.opcp.app import create_app
from plugvault.opcp.services import Services, Settings
from plugvault.store import SqlStore
from plugvault.tokens.selection import TokenConfiguration


@dataclass(frozen=True)
class Orders:
    """`work`: of WORK; `secured`: the folder with what HTTPS needs; `shared`: whether others
    answer on the same socket; `role_tokens`: see `Folder`, with the PINs: orders go through a
    pipe."""

    work: str
    directory: str
    url: str
    database: str
    pool: str
    settings: Settings
    secured: str | None = None
    shared: bool = False
    role_tokens: Mapping[str, TokenConfiguration] = field(default_factory=dict)

    def line(self) -> bytes:
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def read(cls, line: bytes) -> "Orders":
        said = json.loads(line)
        lists = {name: tuple(said["settings"][name]) for name in ("hosts", "networks")}
        said["settings"] = Settings(**{**said["settings"], **lists})
        said["role_tokens"] = {
            role: TokenConfiguration.from_json(configuration)
            for role, configuration in said["role_tokens"].items()
        }
        return cls(**said)


def main() -> int:
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(process)d %(name)s: %(message)s"
    )
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # who gives the orders has ended, maybe in the middle of them
        return 0
    orders = Orders.read(line)
    with ExitStack() as stack:
        store = SqlStore.open(orders.database)
        stack.callback(store.close)
        folder = Folder(Path(orders.directory), role_tokens=orders.role_tokens)
        tokens = folder.tokens(stack, *LABELS)
        pki = Authorities(folder, tokens, time.time(), f"{orders.url}/ocsp", orders.pool)
        links = Links(folder.directory)
        services = assembly.open_services(
            stack, pki, store, orders.url, time.time, orders.settings, links
        )
        WORK[orders.work](services, orders)
    return 0


def answer(services: Services, orders: Orders) -> None:
    """Serve HTTP until stdin ends."""
    secured = Path(orders.secured) if orders.secured else None
    made = server.server(create_app(services), secured, orders.shared)

    def follow() -> None:
        while not made.started and not made.should_exit:
            time.sleep(0.005)
        print("ready", flush=True)
        sys.stdin.buffer.read()
        made.should_exit = True

    threading.Thread(target=follow, daemon=True).start()
    gc.collect()
    gc.freeze()  # what is here now stays: looking through it again holds every request up
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        made.run(sockets=[listener])


def deliver(services: Services, _: Orders) -> None:
    """Deliver events and do the regular duties until stdin ends."""
    stop = threading.Event()

    def follow() -> None:
        print("ready", flush=True)
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=follow, daemon=True).start()
    background.run(services, stop)


WORK: dict[str, Callable[[Services, Orders], None]] = {"answer": answer, "deliver": deliver}


if __name__ == "__main__":
    sys.exit(main())
