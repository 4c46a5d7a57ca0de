"""The host's end of the link to the EV module: over a serial port or over TCP.

`endpoint` runs the channels of `evcc.link` in a thread; `bench` uses the module through them;
`bridges` connect a channel to a station or a vault service; `nullmodem` is a cable of two
pseudo-terminals, with noise and a speed.
"""
