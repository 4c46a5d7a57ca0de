"""Captures of network traffic: written by this program, and read from any other.

    packets.py   IP packets with TCP or UDP inside
    writer.py    `Capture`: the file that `--pcap` asks for

`Capture`'s docstring shows its use.
"""

from plugvault.capture.writer import Capture, CapturedConnection

__all__ = ["Capture", "CapturedConnection"]
