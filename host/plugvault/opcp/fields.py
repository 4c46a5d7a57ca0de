"""Fields that several services share: base64, identifiers, and how values are written."""

import base64
from typing import Annotated

from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from plugvault.contract.bundle import ISO2
from plugvault.opcp.services import Services, services
from plugvault.pools.caller import EMAID_PATTERN, PCID_PATTERN

BASE64_PATTERN = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

Base64 = Annotated[str, Field(pattern=BASE64_PATTERN, min_length=1)]
PcidText = Annotated[str, Field(pattern=PCID_PATTERN)]
EmaidText = Annotated[str, Field(pattern=EMAID_PATTERN)]
PcidPath = Annotated[str, Path(pattern=PCID_PATTERN)]
EmaidPath = Annotated[str, Path(pattern=EMAID_PATTERN)]
Namespace = Annotated[str, Field(pattern=f"^{ISO2}$")]
Found = Annotated[Services, Depends(services)]


class Wire(BaseModel):
    """A body: the names of the specification outside, snake_case of the same words inside."""

    model_config = ConfigDict(alias_generator=to_camel)


def decode(text: str) -> bytes:
    """Base64 that the pattern has let through."""
    return base64.b64decode(text)


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
