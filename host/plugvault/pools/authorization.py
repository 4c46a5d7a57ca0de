"""Authorization: which role may call which operation, and for which vehicles or contracts.

`RIGHTS` is the only place where rights are written [OPCP 1.0.0]. An endpoint names its row with
`plugvault.opcp.rights.may(operation)`, which checks the role before the call. The pool's function
names the same row with `check`, as soon as it knows the PCID, EMAID or operator of the call.
"""

from collections.abc import Mapping

from plugvault.pools.caller import (
    ADMIN,
    ANY,
    CPO,
    CPS,
    MO_EXTERNAL_PKI,
    MO_HUBJECT_PKI,
    OEM,
    OPERATORS,
    PEER,
    Caller,
)
from plugvault.pools.contracts import MISSING
from plugvault.pools.errors import PoolError

# The scope of a right.
ALL = "all"
OWN_VEHICLES = "own vehicles"  # the WMI of the PCID is the caller's
OWN_CONTRACTS = "own contracts"  # the provider of the EMAID is the caller's
OWN_STATIONS = "own stations"  # the operator of the EVSEID or SECCID is the caller's
CONTRACTS_OF_OWN_VEHICLES = "contracts of own vehicles"

EVERYONE = frozenset({OEM, CPO, CPS, ADMIN, PEER}) | OPERATORS


def _grant(scope: str, *roles: str) -> dict[str, str]:
    return dict.fromkeys(roles, scope)


# operation: {role: scope}
RIGHTS: Mapping[str, Mapping[str, str]] = {
    "rcp.read": _grant(ALL, *EVERYONE),
    "rcp.write": _grant(ALL, ADMIN),
    "pcp.write": _grant(OWN_VEHICLES, OEM),
    "pcp.read": _grant(OWN_VEHICLES, OEM) | _grant(ALL, CPS, PEER, *OPERATORS),
    "cps.signers": _grant(ALL, *EVERYONE),
    "cps.sign": _grant(OWN_CONTRACTS, MO_EXTERNAL_PKI) | _grant(ALL, PEER),
    "cps.generate": _grant(OWN_CONTRACTS, MO_HUBJECT_PKI),
    "ccp.install": _grant(ALL, CPO, PEER),
    "ccp.put": _grant(ALL, CPS) | _grant(OWN_CONTRACTS, MO_EXTERNAL_PKI),
    "ccp.delete": _grant(OWN_CONTRACTS, *OPERATORS),
    "ccp.terminate": _grant(OWN_CONTRACTS, *OPERATORS) | _grant(ALL, ADMIN),
    "ccp.lookup": (
        _grant(OWN_CONTRACTS, *OPERATORS)
        | _grant(CONTRACTS_OF_OWN_VEHICLES, OEM)
        | _grant(ALL, CPO)
    ),
    "ccp.vehicle": _grant(OWN_VEHICLES, OEM),
    "est.oem": _grant(OWN_VEHICLES, OEM),
    "est.veh": _grant(OWN_VEHICLES, OEM),
    "est.cpo": _grant(OWN_STATIONS, CPO),
    "est.mo": _grant(OWN_CONTRACTS, MO_HUBJECT_PKI),
    "est.cps": _grant(ALL, CPS),
    "vra.cpo": _grant(OWN_STATIONS, CPO),
    "webhooks": _grant(ALL, *EVERYONE - {PEER}),
    "events": _grant(ALL, *EVERYONE - {PEER}),
    "revoke": (
        _grant(OWN_CONTRACTS, *OPERATORS)
        | _grant(OWN_VEHICLES, OEM)
        | _grant(OWN_STATIONS, CPO)
        | _grant(ALL, ADMIN)
    ),
    "registry": _grant(ALL, *OPERATORS),
    "registry.read": _grant(ALL, *EVERYONE),
    "registry.write": _grant(OWN_VEHICLES, OEM),
    "admin": _grant(ALL, ADMIN),
}

_FOREIGN = "The {} does not belong to the caller."
# An EMAID does not name the vehicle: "forbidden" would reveal to a maker that the contract exists.
_REFUSALS = {
    OWN_CONTRACTS: ("forbidden", _FOREIGN.format("provider of the EMAID")),
    OWN_VEHICLES: ("forbidden", _FOREIGN.format("WMI of the PCID")),
    OWN_STATIONS: ("forbidden", _FOREIGN.format("operator of the EVSEID")),
    CONTRACTS_OF_OWN_VEHICLES: ("not-found", MISSING),
}


def check_role(caller: Caller, operation: str) -> None:
    """Raise PoolError("forbidden") unless a role of the caller may call the operation."""
    roles = RIGHTS[operation].keys()
    if not caller.roles & roles:
        raise PoolError(
            "forbidden", f"This call is for {', '.join(sorted(roles))}, not for {caller.name}."
        )


def check(
    caller: Caller, operation: str, *, pcid: str = "", emaid: str = "", operator: str = ""
) -> None:
    """Raise PoolError unless the caller has the right to the operation for this identifier.

    `pcid`, `emaid`: of the vehicle and the contract, one or both; a provider ("DEPVA") stands for
    its EMAIDs. `operator`: of a charging station ("DEPVC"). An identifier that is not given
    belongs to no caller.
    """
    check_role(caller, operation)
    rights = RIGHTS[operation]
    scopes = [rights[role] for role in sorted(caller.roles & rights.keys())]
    of_own_vehicle = _is_owned(caller.wmis, pcid[:3].upper())
    permitted = {
        ALL: True,
        OWN_VEHICLES: of_own_vehicle,
        OWN_CONTRACTS: _is_owned(caller.providers, emaid[:5]),
        OWN_STATIONS: _is_owned(caller.operators, operator),
        CONTRACTS_OF_OWN_VEHICLES: of_own_vehicle,
    }
    if not any(permitted[scope] for scope in scopes):
        raise PoolError(*_REFUSALS[scopes[0]])


def _is_owned(prefixes: frozenset[str], prefix: str) -> bool:
    return bool(prefix) and (prefix in prefixes or ANY in prefixes)
