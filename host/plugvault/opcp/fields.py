"""Fields of several services: base64, identifiers, namespaces, and the encoding of binary
values."""

from typing import Annotated

import pybase64
from fastapi import Depends, Header, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.opcp.services import Services, services
from plugvault.pki.schemes import EDITION20, EDITIONS
from plugvault.pools.caller import EMAID_PATTERN, PCID_PATTERN
from plugvault.pools.errors import PoolError

BASE64_PATTERN = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
UUID_PATTERN = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


def _served(namespace: str) -> str:
    if EDITIONS.get(namespace) == EDITION20:
        raise PydanticCustomError(
            "namespace", "ISO 15118-20 is not served here; use {served}", {"served": ISO2}
        )
    if namespace != ISO2:
        raise PydanticCustomError("namespace", 'must match "^{served}$"', {"served": ISO2})
    return namespace


Base64 = Annotated[str, Field(pattern=BASE64_PATTERN, min_length=1)]
PcidText = Annotated[str, Field(pattern=PCID_PATTERN)]
EmaidText = Annotated[str, Field(pattern=EMAID_PATTERN)]
PcidPath = Annotated[str, Path(pattern=PCID_PATTERN)]
EmaidPath = Annotated[str, Path(pattern=EMAID_PATTERN)]
Namespace = Annotated[
    str, AfterValidator(_served), WithJsonSchema({"type": "string", "enum": [ISO2]})
]
AppServices = Annotated[Services, Depends(services)]
# A partner sends this header: the answer has only records of this ecosystem.
Broadcast = Annotated[bool, Header(alias="broadcast")]


class Wire(BaseModel):
    """A body: camelCase in JSON, as in the specification, and snake_case in Python."""

    model_config = ConfigDict(alias_generator=to_camel)


def decode(text: str) -> bytes:
    """The bytes of a text that the pattern of `Base64` has validated. Raises ValueError for
    another text."""
    return pybase64.b64decode(text)


def checked(text: str, words: str) -> bytes:
    """The bytes of a base64 text. Raises PoolError("invalid") with the message `words`."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise PoolError("invalid", words) from error


def encode(data: bytes) -> str:
    """Base64 with padding and without line breaks [RFC 4648, 4]."""
    return pybase64.b64encode_as_string(data)
