"""ST: contracts beside one another, and a store that is full."""

from collections.abc import Callable

from plugvault.cases.case import ACCEPT, EITHER, Case, Change
from plugvault.cases.scene import OTHER_EMAID, Scene

_MANY = 8


def _other_contract(scene: Scene) -> list[bytes]:
    return [scene.response(contract=scene.contract(OTHER_EMAID))]


def _emaid(number: int) -> str:
    return f"DEPVT{100 + number:09}"


def _lower_numbers(number: int) -> Callable[[Scene], list[bytes]]:
    """The contracts before this one, each with its own DH point."""
    return lambda scene: [
        scene.message(
            scene.contract(_emaid(earlier)), ephemeral=scene.key(f"ephemeral of {earlier}")
        )
        for earlier in range(1, number)
    ]


def _numbered(number: int) -> Change:
    return lambda scene: {"contract": scene.contract(_emaid(number))}


CASES = [
    Case(
        "ST-001",
        "a second contract, of another EMAID",
        ACCEPT,
        "house",
        "A vehicle may hold contracts of several operators; a module with room for one replaces.",
        before=_other_contract,
        change=lambda scene: {"ephemeral": scene.key("ephemeral 2")},
    ),
    *(
        Case(
            f"ST-{10 + number:03}",
            f"contract {number} of {_MANY}, each of another EMAID",
            EITHER,
            "house",
            "A full store refuses or replaces; an earlier contract signs, or is gone whole.",
            before=_lower_numbers(number),
            before_must=EITHER,
            change=_numbered(number),
        )
        for number in range(1, _MANY + 1)
    ),
]
