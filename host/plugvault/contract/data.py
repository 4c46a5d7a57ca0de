"""The data of a contract, as operator, CPS, pools and vehicle exchange it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ContractData:
    """OPCP's contractData: a contract without the CPS's signature.

    `emaid`: normalised, 14 or 15 characters; `certificate`: DER of the contract certificate;
    `subs`: DER, Sub2 first; `wrapped`: the encrypted private key; `dh_point`: the sender's
    ephemeral public key. Of ISO 15118-2 `wrapped` has 48 bytes and `dh_point` 65.
    """

    emaid: str
    certificate: bytes
    subs: tuple[bytes, ...]
    wrapped: bytes
    dh_point: bytes
