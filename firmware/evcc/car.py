"""The parts of one car that its charging session and the maker's channel share."""

from collections import namedtuple

CarContext = namedtuple(
    "CarContext",
    (
        "vault",  # see `evcc.vault`
        "identity",  # `identity.Identity`
        "trust",  # `trust.Trust`
        "contracts",  # `contracts.Contracts`
        "time",  # `timekeeper.Timekeeper`
    ),
)
