"""The EV module: Plug & Charge from the car's side, its keys in a token.

    installation   THE HEART: every check on a contract message, then the key, then the commit
    session        a charging session up to authorization      telematics   the maker's channel
    contracts      the contracts in the car    trust    its roots    identity   who the car is
    signature      XML signatures over EXI     exi      the codec    messages   ISO 15118-2 bodies
    x509 chain     certificates and paths      der p256 csr ids record errors   what they need
    vault          the only way to a key       link     frames and channels, V2GTP
    module         the loop that joins them    ports    the only code that touches hardware

The same files run on MicroPython and CPython. Everything outside `ports` and `vault` is pure: it
gets bytes, a clock and a vault as arguments.
"""
