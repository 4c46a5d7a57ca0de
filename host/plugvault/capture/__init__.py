"""Captures of network traffic: written by this program, and read from any other.

    packets.py   IP packets with TCP or UDP inside
    writer.py    `Capture`: the file that `--pcap` asks for
    trace.py     the trace of a car's module as a capture
    files.py     pcap and pcapng of any program, read
    layers.py    a frame's link, IP, TCP and UDP
    streams.py   TCP connections put together again
    tls.py       the handshake, and TLS 1.2 decrypted

`Capture`'s docstring shows its use.
"""

from plugvault.capture.writer import Capture, CapturedConnection

__all__ = ["Capture", "CapturedConnection"]
