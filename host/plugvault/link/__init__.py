"""The host's end of the link to the EV module: over a serial port or over TCP.

`endpoint` speaks `evcc.link`'s channels from a thread of its own; `nullmodem` is a cable between
two pseudo-terminals, as noisy and as slow as one likes.
"""
