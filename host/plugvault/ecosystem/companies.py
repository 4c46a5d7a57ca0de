"""The companies of an ecosystem, with their identifiers and roles."""

from plugvault.pools.caller import (
    ADMIN,
    CPO,
    CPS,
    MO_EXTERNAL_PKI,
    MO_HUBJECT_PKI,
    OEM,
    Caller,
)

WMI = "PVT"
PROVIDER = "DEPVA"  # the operator with its own PKI
PROVIDER_V2G = "DEPVB"  # the operator that uses the ecosystem's
CHARGE_POINT_OPERATOR = "DEPVC"
EVSE = "DE*PVC*E000001"
POOL, MAKER, CHARGE_POINTS = "Example Pool", "Example Cars", "Example CPO"
OPERATOR, OPERATOR_V2G = "Operator A", "Operator B"

CALLERS = (
    Caller(MAKER, frozenset({OEM}), wmis=frozenset({WMI})),
    Caller(OPERATOR, frozenset({MO_EXTERNAL_PKI}), providers=frozenset({PROVIDER})),
    Caller(OPERATOR_V2G, frozenset({MO_HUBJECT_PKI}), providers=frozenset({PROVIDER_V2G})),
    Caller(CHARGE_POINTS, frozenset({CPO}), operators=frozenset({CHARGE_POINT_OPERATOR})),
    Caller("CPS", frozenset({CPS})),
    Caller("Administrator", frozenset({ADMIN})),
)


def company(name: str) -> dict[str, str]:
    """The subject of a company's certificate, C and O, without its CN."""
    return {"C": "DE", "O": name}
