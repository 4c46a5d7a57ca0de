"""What happens to a contract whoever ends it: its operator, its vehicle's maker, or time.

Below CCP and PCP, so that both can end contracts.
"""

from dataclasses import replace

from plugvault.pools import events
from plugvault.pools.records import Contract, Records

ENDED = "cessationOfOperation"


def remove(records: Records, contract: Contract, now: float, revoke: bool = True) -> None:
    """Delete a contract, tell its vehicle's maker, and revoke what one of our own CAs issued.

    Revoked first and deleted only if that succeeds. `revoke=False`: the certificate stays good,
    which its operator asks for. Nothing takes the place of a default that goes.
    """
    status = records.statuses.get(contract.issuer, contract.serial) if revoke else None
    if status and status.revoked is None:
        records.statuses.put(replace(status, revoked=int(now), reason=ENDED))
    records.contracts.delete(contract.emaid, contract.namespace)
    tell_maker(records, "oem.contract.deleted", contract, now)


def tell_maker(records: Records, kind: str, contract: Contract, now: float) -> None:
    """`kind`: "oem.contract.created", ".updated" or ".deleted"."""
    events.publish(
        records,
        kind,
        contract.vehicle[:3],
        events.contract_payload(records, contract),
        now,
        contract.vehicle,
        contract.namespace,
    )
