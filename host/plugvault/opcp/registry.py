"""The registries over HTTP: vehicles by VIN and number plate, providers by identifier.

An extension: OPCP has no such service.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from plugvault.opcp.fields import AppServices, PcidText, Wire
from plugvault.opcp.rights import may
from plugvault.pools import providers, registry
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provider

router = APIRouter(prefix="/v1/registry", tags=["Registries (extension)"])
Reader = Annotated[Caller, Depends(may("registry.read"))]
Plate = Annotated[str, Field(min_length=2, max_length=24)]
Document = Annotated[str, Field(min_length=6, max_length=60)]
Vin = Annotated[str, Field(pattern=registry.VIN_PATTERN)]
ProviderPath = Annotated[str, Path(pattern=providers.PROVIDER_PATTERN)]
Country = Annotated[str | None, Query(pattern="^[A-Za-z]{2}$")]


class Registration(Wire):
    """A vehicle of the maker. `vin`: 17 characters [ISO 3779]; `registrationDocument`: the number
    of the registration document, 6 to 40 letters and digits."""

    vin: Vin
    plate: Plate | None = None
    pcid: PcidText
    registration_document: Document


class Question(Wire):
    """One of `pcid`, `vin` and `plate`, and the number of the registration document as the
    proof."""

    pcid: PcidText | None = None
    vin: Vin | None = None
    plate: Plate | None = None
    registration_document: Document


class Entry(Wire):
    """The company of a provider identifier. `registry`: the issuer of the identifier; `active`:
    false takes the identifier from its company."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    registry: Annotated[str | None, Field(max_length=100)] = None
    active: bool = True


@router.put("/vehicles", summary="Enter a vehicle of the maker")
def register(
    caller: Annotated[Caller, Depends(may("registry.write"))],
    services: AppServices,
    body: Registration,
) -> dict[str, Any]:
    """The number of the registration document is stored as a digest only. 403 for a VIN or a PCID
    of another maker; 400 for a plate or a PCID of another vehicle."""
    vehicle = registry.register(
        services.store, caller, body.vin, body.plate, body.pcid, body.registration_document
    )
    return {"vin": vehicle.vin, "plate": vehicle.plate, "pcid": vehicle.pcid}


@router.post("/vehicles/lookup", summary="Get the PCID of a vehicle, with a proof")
def lookup(
    caller: Annotated[Caller, Depends(may("registry"))], services: AppServices, body: Question
) -> dict[str, str]:
    """The number of the registration document is the proof. 403 for a wrong proof or an unknown
    vehicle; after three wrong proofs, 403 for every proof during fifteen minutes."""
    identifiers = [
        (kind, text) for kind in registry.READ if (text := getattr(body, kind)) is not None
    ]
    if len(identifiers) != 1:
        raise PoolError("invalid", "body : must have one of pcid, vin and plate")
    document, now = body.registration_document, services.clock()
    return {"pcid": registry.prove(services.store, caller, *identifiers[0], document, now).pcid}


@router.get("/providers", summary="List the provider identifiers")
def listed(_: Reader, services: AppServices, country: Country = None) -> dict[str, Any]:
    """All identifiers, or those of a `country` (two letters)."""
    with services.store.read() as records:
        return {"providers": [_show(entry) for entry in providers.listed(records, country)]}


@router.get("/providers/{provider}", summary="Get the company of a provider identifier")
def get(_: Reader, services: AppServices, provider: ProviderPath) -> dict[str, Any]:
    """404 for an identifier that is not in the registry."""
    with services.store.read() as records:
        return _show(providers.get(records, provider))


@router.put("/providers/{provider}", summary="Enter a provider identifier")
def enter(
    caller: Annotated[Caller, Depends(may("admin"))],
    services: AppServices,
    provider: ProviderPath,
    body: Entry,
) -> dict[str, Any]:
    """The default of `registry` is that of the country: EV Roam (GB) or Energy Codes & Services
    (DE)."""
    with services.store.write() as records:
        return _show(
            providers.enter(
                records,
                caller,
                provider,
                body.name,
                services.clock(),
                registry=body.registry,
                active=body.active,
            )
        )


def _show(entry: Provider) -> dict[str, Any]:
    return {
        "provider": entry.provider,
        "name": entry.name,
        "registry": entry.registry,
        "active": entry.active,
    }
