"""The roots of a new vehicle: those of the providers that serve its sales region.

A vehicle has no room for every root, and charges in the region where it was sold. The O of a
root's subject names its provider. A root of no listed provider belongs to the maker's own
ecosystem, and goes into every vehicle.
"""

import re
from collections.abc import Mapping, Sequence

from plugvault.pki import path

LIMIT = 16  # trust anchors in a vehicle

PROVIDERS = {
    "hubject": "Hubject",
    "irdeto": "Irdeto",
    "gireve": "Gireve",
    "ssi": "SSI",
    "digicert": "DigiCert",
}
REGIONS = {
    "EU": ("hubject", "irdeto", "gireve"),
    "NA": ("hubject", "irdeto", "ssi", "digicert"),
}


def anchors(
    region: str, roots: Mapping[str, Sequence[bytes]], oem: bytes
) -> list[tuple[str, bytes]]:
    """The trust anchors for a vehicle: (kind, DER).

    `roots`: DER of RCP's roots by kind; `oem`: the root of the vehicle's own provisioning path.
    MO roots fill the remaining room: a vehicle trusts a contract that a CPS has signed without
    them. Raises ValueError for an unknown region, or for too many V2G roots.
    """
    if region not in REGIONS:
        raise ValueError(f"no region {region!r}; there are {', '.join(REGIONS)}")
    served = [root for root in roots.get("V2G", ()) if is_served(region, root)]
    needed = [*(("V2G", root) for root in served), ("OEM", oem)]
    if len(needed) > LIMIT:
        raise ValueError(f"{len(needed)} trust anchors in {region}, and room for {LIMIT}")
    operators = [("MO", root) for root in roots.get("MO", ()) if is_served(region, root)]
    return needed + operators[: LIMIT - len(needed)]


def is_served(region: str, root: bytes) -> bool:
    """Whether a root is of a provider of this region, or of no provider that has a region."""
    provider = provider_of(root)
    return provider is None or provider in REGIONS[region]


def provider_of(root: bytes) -> str | None:
    """The provider that the O of a root's subject names, a key of PROVIDERS; None for any
    other."""
    words = re.findall(r"\w+", path.read(root).names.get("O", "").casefold())
    return next((provider for provider in PROVIDERS if provider in words), None)
