"""The EV module: Plug & Charge from the car's side, its keys in a token.

    module        the loop that joins all parts; `config` reads its configuration, and `unable`
                  names the reason where it cannot start
    iso15118_2/   the charging session up to authorization, its messages, and `installation`: every
                  check on a contract message, then the key, then the commit
    session_engine  what sessions of every edition share: timeouts, order, the vault's answers
    telematics    the maker's channel
    contracts, envelopes, identity, trust, revocation, timekeeper   what the car stores
    signature, exi/   XML signatures over EXI, and the EXI codec
    x509, chain, verified   certificates, paths, and the signatures known to be good
    der, p256, csr, ids, record, utf8, errors   used by all of these
    pause, check_digit, protocols   a slow board's pauses, an EMAID's check digit, other protocols
    vault/        the only way to a private key
    link/         frames, channels, V2GTP
    network/, tls/   the car's own way to a station, for a computer: SDP, TCP, TLS, OCSP
    ports/        the only code that touches hardware

The same files run on MicroPython and CPython. Everything outside `ports` and `vault` is pure: it
gets bytes, a clock and a vault as arguments.
"""
