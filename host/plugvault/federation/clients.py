"""The clients for the partners of this ecosystem, one for each link."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from evcc.errors import EvccError
from plugvault.pki import forms, trusted
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.seldom import Seldom

log = logging.getLogger("plugvault.federation")

_THREADS = 8  # concurrent requests to one partner


@dataclass(frozen=True)
class Link(Credentials):
    """The credentials at a partner, whose URL is `audience`. `trust`: PEM of the roots above its
    HTTPS certificate, where this machine does not trust them."""

    trust: str | None = None

    def open(self) -> OpcpClient:
        """A client, to be closed. Raises ValueError when `trust` cannot be read, OpcpError for an
        URL that is not one of HTTP."""
        trust = None
        if self.trust is not None:
            try:
                trust = trusted.tls(forms.certificates(self.trust.encode()))
            except forms.FormError as error:
                raise ValueError(f"its roots cannot be read: {error.detail}") from error
        return OpcpClient(self.audience, self, trust)


@dataclass(frozen=True)
class Opened:
    """The client of a link. `threads`: of this partner alone, because one may be slow."""

    link: Link
    client: OpcpClient
    threads: ThreadPoolExecutor


class Clients:
    """The clients, opened at their first use. Safe to use from several threads. `close()` when
    done.

    `links`: the link of each partner, by its name; the mapping may change meanwhile. It raises
    EvccError or OSError while the links cannot be read: a partner then has no client.
    """

    def __init__(self, links: Mapping[str, Link]) -> None:
        self._links = links
        self._opened: dict[str, Opened] = {}
        self._lock = Lock()  # held while a client is opened, and never during a request
        self._unusable = Seldom(log, "a partner cannot be asked: {}")

    def close(self) -> None:
        with self._lock:
            opened = list(self._opened.values())
        for partner in opened:
            partner.threads.shutdown(cancel_futures=True)
            partner.client.close()

    @property
    def linked(self) -> bool:
        """Whether there is a link to a partner. True as well while the links cannot be read."""
        try:
            return bool(self._links)
        except (EvccError, OSError):
            return True

    def open(self, names: Sequence[str]) -> dict[str, Opened]:
        """The clients of these partners, by their names. A partner whose link is missing or not
        usable has none."""
        opened: dict[str, Opened] = {}
        for name in names:
            try:
                partner = self._open(name)
            except (EvccError, OSError, ValueError) as error:
                self._unusable("%s: %s", name, error)
                continue
            if partner is not None:
                opened[name] = partner
        return opened

    def _open(self, name: str) -> Opened | None:
        link = self._links.get(name)
        if link is None:
            return None
        with self._lock:
            before = self._opened.get(name)
            if before is not None and before.link == link:
                return before
            client = link.open()
            threads = before.threads if before else ThreadPoolExecutor(_THREADS, _thread(name))
            self._opened[name] = Opened(link, client, threads)
            return self._opened[name]


def _thread(name: str) -> str:
    return f"plugvault-{name}"
