"""VRA: an operator announces a charging station before it requests the station's certificate.

OPCP's documents do not have this call. Live services require it before `cpo/simpleenroll`, with
the members below and the spelling `manufacture`. A setting makes it required here.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from plugvault.opcp.fields import AppServices, Wire
from plugvault.opcp.rights import may
from plugvault.pools import stations
from plugvault.pools.caller import Caller

router = APIRouter(prefix="/v1/vra/cpo", tags=["VRA: announced stations"])
Operator = Annotated[Caller, Depends(may("vra.cpo"))]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str | None, Field(max_length=255)]


class Announcement(Wire):
    """A station: `commonName` is the CN of its later certificate (EVSEID or SECCID), `evseID` its
    charge points; the other members describe the device."""

    common_name: Name
    manufacture: Text = None
    device_name: Text = None
    device_sw_version: Annotated[Text, Field(alias="deviceSWVersion")] = None
    evse_serial_number: Text = None
    evse_id: Annotated[list[Name], Field(alias="evseID", max_length=100, default_factory=list)]
    evse_iso_version: Annotated[
        str | None, Field(alias="evseISOversion", pattern="^15118-(2|20)$")
    ] = None
    ocpp_version: Text = None
    charge_box_serial_number: Text = None


@router.put("/endEntities", summary="Announce a station", response_model=None)
def put(caller: Operator, services: AppServices, announcement: Announcement) -> None:
    """The EVSEIDs and the SECCID must be of the caller's operator; 403 otherwise. The same name
    replaces the entry."""
    body = announcement.model_dump(by_alias=True, exclude_none=True)
    with services.store.write() as records:
        stations.announce(records, caller, body, services.clock())


@router.get("/endEntities", summary="List the announced stations of the caller")
def get(caller: Operator, services: AppServices) -> list[dict[str, Any]]:
    """The announcements as they were sent."""
    with services.store.read() as records:
        return stations.announced(records, caller)
