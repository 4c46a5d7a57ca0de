"""A network interface of this machine: whether ISO 15118 can use it, and its link-local address.

Vehicle and station speak IPv6 on one link: SDP by multicast, TCP between link-local addresses. An
address is not usable until duplicate address detection is over [RFC 4862], some seconds after the
interface comes up. Linux only.
"""

import fcntl
import ipaddress
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evcc.errors import EvccError

WAIT = 10.0  # seconds for an address; duplicate address detection takes one or two
_POLL = 0.1
_SIOCGIFFLAGS = 0x8913
_UP, _LOOPBACK, _RUNNING, _MULTICAST = 0x1, 0x8, 0x40, 0x1000  # of struct ifreq
_DUPLICATE, _TENTATIVE = 0x08, 0x40  # of an address
# Of the namespace of this thread, unlike /proc/net and /sys/class/net.
_ADDRESSES = Path("/proc/thread-self/net/if_inet6")


class InterfaceError(EvccError):
    """An interface over which no vehicle can be reached. remedy: the command or the step that
    helps."""

    REASONS = ("missing", "down", "cable", "multicast", "address", "tentative", "duplicate")

    def __init__(self, reason: str, detail: str, remedy: str) -> None:
        super().__init__(reason, f"{detail}; {remedy}")
        self.found = detail
        self.remedy = remedy


@dataclass(frozen=True)
class LinkLocal:
    """A usable link-local address. address: 16 bytes. index: of the interface, the scope of its
    addresses."""

    interface: str
    address: bytes
    index: int

    @property
    def scoped(self) -> str:
        """The address as text with its scope: fe80::1%eth0; ::1 has none."""
        address = ipaddress.IPv6Address(self.address)
        return str(address) if address.is_loopback else f"{address}%{self.interface}"


def link_local(interface: str) -> LinkLocal:
    """The interface's usable link-local address; ::1 for the loopback interface. Raises
    InterfaceError."""
    index, flags = _index(interface), _flags(interface)
    if not flags & _UP:
        raise InterfaceError("down", f"{interface} is down", f"sudo ip link set {interface} up")
    if flags & _LOOPBACK:
        return LinkLocal(interface, ipaddress.IPv6Address("::1").packed, index)
    if not flags & _RUNNING:
        text = f"nothing is connected to {interface}"
        raise InterfaceError("cable", text, "plug in the cable, or switch the modem on")
    if not flags & _MULTICAST:
        remedy = f"sudo ip link set {interface} multicast on"
        raise InterfaceError("multicast", f"{interface} has no multicast", remedy)
    return LinkLocal(interface, _address(interface), index)


def all_usable() -> list[LinkLocal]:
    """The addresses of all interfaces over which a vehicle can be reached, without the
    loopback."""
    usable = []
    for _, name in socket.if_nameindex():
        with suppress(InterfaceError):
            local = link_local(name)
            if not ipaddress.IPv6Address(local.address).is_loopback:
                usable.append(local)
    return usable


def wait(interface: str, seconds: float = WAIT) -> LinkLocal:
    """The interface's address, as soon as it is usable within `seconds`. Raises InterfaceError: at
    once for a reason that time does not change."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return link_local(interface)
        except InterfaceError as error:
            transient = error.reason in ("address", "tentative")
            if not transient or time.monotonic() > deadline:
                raise
        time.sleep(_POLL)


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        names = ", ".join(name for _, name in socket.if_nameindex())
        text = f"there is no interface {interface!r}"
        raise InterfaceError("missing", text, f"use one of: {names}") from error


def _flags(interface: str) -> int:
    request = struct.pack("16sH14x", interface.encode(), 0)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
    flags: int = struct.unpack_from("16xH", answer)[0]
    return flags


def _address(interface: str) -> bytes:
    """The interface's link-local address, 16 bytes. Raises InterfaceError."""
    tentative = duplicate = ""
    for line in _ADDRESSES.read_text(encoding="utf-8").splitlines():
        address, _, _, _, flags, name = line.split()
        if name != interface or not address.startswith("fe80"):
            continue
        text = str(ipaddress.IPv6Address(bytes.fromhex(address)))
        if int(flags, 16) & _DUPLICATE:
            duplicate = text
        elif int(flags, 16) & _TENTATIVE:
            tentative = text
        else:
            return bytes.fromhex(address)
    if tentative:
        text = f"{tentative} of {interface} is not checked for duplicates yet"
        raise InterfaceError("tentative", text, "wait a few seconds")
    if duplicate:
        remedy = f"sudo ip address change {duplicate}/64 dev {interface} nodad, or another address"
        text = f"another device on the link has {duplicate} too"
        raise InterfaceError("duplicate", text, remedy)
    raise InterfaceError(
        "address",
        f"{interface} has no link-local address",
        f"sudo sysctl net.ipv6.conf.{interface}.disable_ipv6=0, "
        f"sudo ip link set {interface} addrgenmode eui64",
    )
