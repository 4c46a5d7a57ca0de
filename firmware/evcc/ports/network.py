"""The ports of `evcc.network.station`, as one value to hand on."""

from evcc.ports.dial import Dialled, wait
from evcc.ports.udp import Udp

__all__ = ["Dialled", "Udp", "wait"]
