"""The ports of `evcc.network.station`, as one module that its owner passes."""

from evcc.ports.dial import Dialled, wait
from evcc.ports.udp import Udp

__all__ = ["Dialled", "Udp", "wait"]
