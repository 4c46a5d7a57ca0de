"""One process of an ecosystem: `python -m plugvault.ecosystem.process FD` [`plugvault.processes`].

It answers on the listening socket FD, which it shares with other processes, or delivers events.
Its orders name the folder with its tokens and certificates, and the database with its records.
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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from plugvault.ecosystem import assembly, background, server
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.folder import Folder
from plugvault.ecosystem.links import Links
from plugvault.failing import FailingLoops
from plugvault.opcp.app import create_app
from plugvault.opcp.services import Services, Settings
from plugvault.processes import LifeLine
from plugvault.store import SqlStore
from plugvault.tokens.selection import TokenConfiguration


@dataclass(frozen=True)
class Orders:
    """The orders of a process: one line of JSON on stdin. They may hold PINs, so they go through a
    pipe.

    work: a key of WORK. tls_folder: the files for HTTPS. shared: other processes answer on the
    same socket. role_tokens: see `Folder`.
    """

    work: str
    directory: str
    url: str
    database: str
    pool: str
    settings: Settings
    tls_folder: str | None = None
    shared: bool = False
    role_tokens: Mapping[str, TokenConfiguration] = field(default_factory=dict)

    def line(self) -> bytes:
        """The orders as JSON, without a line break."""
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def read(cls, line: bytes) -> "Orders":
        """The orders in a line of JSON."""
        orders = json.loads(line)
        lists = {name: tuple(orders["settings"][name]) for name in ("hosts", "networks")}
        orders["settings"] = Settings(**{**orders["settings"], **lists})
        orders["role_tokens"] = {
            role: TokenConfiguration.from_json(configuration)
            for role, configuration in orders["role_tokens"].items()
        }
        return cls(**orders)


def main() -> int:
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(process)d %(name)s: %(message)s"
    )
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the supervisor has ended, perhaps in the middle of the orders
        return 0
    life = LifeLine()
    orders = Orders.read(line)
    with ExitStack() as stack:
        store = SqlStore.open(orders.database)
        stack.callback(store.close)
        folder = Folder(Path(orders.directory), role_tokens=orders.role_tokens)
        tokens = folder.tokens(stack, *LABELS)
        now, ocsp = time.time(), f"{orders.url}/ocsp"
        pki = Authorities(folder, tokens, now, ocsp, orders.pool, issues=False)
        links = Links(folder.directory)
        services = assembly.open_services(
            stack, pki, store, orders.url, time.time, orders.settings, links
        )
        WORK[orders.work](replace(services, failing=FailingLoops(life.tell)), orders, life)
    return 0


def answer(services: Services, orders: Orders, life: LifeLine) -> None:
    """Serve HTTP until stdin ends."""
    tls_folder = Path(orders.tls_folder) if orders.tls_folder else None
    http_server = server.server(create_app(services), tls_folder, orders.shared)

    def stop() -> None:
        http_server.should_exit = True

    def tell() -> None:
        while not http_server.started:
            time.sleep(0.005)
        life.ready(stop)

    threading.Thread(target=tell, daemon=True).start()
    gc.collect()
    gc.freeze()  # these objects stay; a full collection would go through them and delay requests
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        http_server.run(sockets=[listener])


def deliver(services: Services, _: Orders, life: LifeLine) -> None:
    """Deliver events and run the periodic tasks until stdin ends."""
    stop = threading.Event()
    life.ready(stop.set)
    background.run(services, stop)


WORK: dict[str, Callable[[Services, Orders, LifeLine], None]] = {
    "answer": answer,
    "deliver": deliver,
}


if __name__ == "__main__":
    sys.exit(main())
