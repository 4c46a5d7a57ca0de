"""The vehicle of `plugvault vehicle`: its token, its maker, and its contract.

The maker is a role of an ecosystem: in a folder, which then runs in this process, or a running
sandbox, over OPCP. A vehicle that is kept has its files in one folder:

    vehicle.json   0600: its PCID, its token and the PIN
    chain.pem      0600: its provisioning certificate, then the sub-CAs
    token/         its SoftHSM token, unless --config names another
    car/           the module's configuration and contracts
    maker/         the maker's telematics key, for a vehicle of a sandbox
"""

import json
import secrets
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evcc.errors import EvccError
from plugvault import file_lock, json_file
from plugvault.car import Car
from plugvault.cli.session_options import client_of
from plugvault.cli.vehicle.options import REGION, Options
from plugvault.demo.walkthrough import COUNTRY, MAKER
from plugvault.ecosystem import PROVIDER_V2G, WMI, Ecosystem
from plugvault.ecosystem.folder import Folder, write
from plugvault.pki import forms, trusted
from plugvault.roles.mo import Operator
from plugvault.roles.oem import VehicleMaker
from plugvault.runtimes import Runtime
from plugvault.telematics import Maker
from plugvault.temporary import temporary_folder
from plugvault.tokens import TokenKey, VaultError, providers
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration, choose

_FILE, _CHAIN = "vehicle.json", "chain.pem"


class GarageError(EvccError):
    """Options from which no vehicle can be made."""

    REASONS = ("folder", "trust")


@dataclass(frozen=True)
class World:
    """The companies around the vehicle. operator: None where no contract can be made from here."""

    key: TokenKey  # of the maker, for the telematics channel
    maker: VehicleMaker
    operator: Operator | None


@dataclass
class Vehicle:
    """A complete vehicle. contract: the EMAID of the one that waits in the pool, or ""."""

    car: Car
    pcid: str
    contract: str = ""


def world(stack: ExitStack, options: Options, folder: Path) -> World:
    """The ecosystem that the options select, until `stack` ends. Raises EvccError, OSError."""
    if options.sandbox is None:
        ecosystem = stack.enter_context(Ecosystem(options.data or folder / "ecosystem"))
        return World(ecosystem.telematics_key, ecosystem.oem, ecosystem.mo)
    if options.data is not None:
        raise GarageError("folder", "one of --sandbox and --data")
    token = Folder(folder / "maker").tokens(stack, "oem")["oem"]
    maker, of_maker = client_of(options.sandbox, options.sandbox_trust, "--sandbox-trust")
    stack.enter_context(maker)
    other, of_operator = client_of(
        options.sandbox, options.sandbox_trust, "--sandbox-trust", "PLUGVAULT_MO_CLIENT"
    )
    stack.enter_context(other)
    has_operator = of_maker is None or of_operator is not None  # in open mode no role needs any
    operator = Operator(other, PROVIDER_V2G) if has_operator else None
    return World(_telematics_key(token), VehicleMaker(maker), operator)


def _telematics_key(token: Any) -> TokenKey:
    try:
        key: TokenKey = token.key("telematics")
    except VaultError as error:
        if error.reason != "not-found":
            raise
        key = token.generate("telematics")
    return key


def folder_of(stack: ExitStack, options: Options) -> Path:
    """The vehicle's folder: that of --keep, for this command alone, or a temporary one. Raises
    GarageError, OSError."""
    if options.keep is None:
        return stack.enter_context(temporary_folder())
    options.keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        stack.enter_context(file_lock.locked(options.keep / ".lock", timeout=0))
    except TimeoutError:
        text = f"another `plugvault vehicle` uses {options.keep}: name another --keep folder"
        raise GarageError("folder", text) from None
    return options.keep.resolve()


def park(
    stack: ExitStack,
    options: Options,
    runtime: Runtime,
    trace: Path | None,
    observe: Callable[[str, str], None],
) -> Vehicle:
    """Make or open the vehicle and run it until `stack` ends. Raises EvccError, OSError,
    ValueError."""
    folder = folder_of(stack, options)
    around = world(stack, options, folder)
    car = Car(
        runtime,
        "serial",
        folder / "car",
        maker=around.key.point,
        token=_token(folder, options),
        vault="link" if runtime.name == "debian32" else None,  # tokens here have 64 bits
        network=options.network(trace),
        observe=observe,
    )
    stack.enter_context(car)
    maker = car.maker(around.key)
    maker.connect()
    maker.set_time(int(time.time()))
    vehicle = Vehicle(car, _provision(maker, around, options, folder))
    if around.operator is not None and (options.install or not maker.contracts()):
        vehicle.contract = around.operator.contract(vehicle.pcid)
        around.maker.choose(vehicle.pcid, vehicle.contract)
    return vehicle


def _token(folder: Path, options: Options) -> TokenConfiguration:
    """The token of --config, or a SoftHSM token of the vehicle's own. Raises: VaultError."""
    selection = choose({}, options.config)
    if selection.vault is not None:
        return selection.vault
    kept = _kept(folder)
    if "location" in kept:
        location = TokenLocation.from_json(kept["location"])
    else:
        kept["pin"] = secrets.token_hex(8)
        location = providers.SOFTHSM.make(folder / "token", "car", kept["pin"])
        kept["location"] = asdict(location)
        _keep(folder, kept)
    return TokenConfiguration(location, kept["pin"], selection.minimum_custody)


def _provision(maker: Maker, around: World, options: Options, folder: Path) -> str:
    """Give the vehicle its certificate, unless it has one, and its trust anchors. Returns the
    PCID."""
    kept = _kept(folder)
    status = maker.status()
    if not status.certified:
        pcid = WMI + "P" + "".join(secrets.choice("0123456789") for _ in range(13))
        leaf, subs = around.maker.enrol(maker.csr(pcid, MAKER, COUNTRY))
        around.maker.register(leaf, subs, around.maker.client.roots_by_kind().get("V2G", []))
        pem = "".join(map(ssl.DER_cert_to_PEM_cert, (leaf, *subs)))
        write(folder / _CHAIN, pem.encode())
        kept["pcid"] = pcid
        _keep(folder, kept)
    elif status.pcid != kept.get("pcid"):
        raise GarageError("folder", f"the token's vehicle is {status.pcid}: name its own folder")
    leaf, *subs = forms.certificates((folder / _CHAIN).read_bytes())
    anchors = around.maker.anchors(REGION, leaf, subs)
    maker.install_trust(REGION, list(dict.fromkeys([*anchors, *_trusted(options)])))
    if not status.certified:
        maker.install_certificate([leaf, *subs])
    return str(kept["pcid"])


def _kept(folder: Path) -> dict[str, Any]:
    """The content of vehicle.json. Raises: GarageError("folder"), OSError."""
    file = folder / _FILE
    if not file.exists():
        return {}
    try:
        kept = json_file.read(file)
    except json_file.JsonError as error:
        kept = error
    if not isinstance(kept, dict):
        raise GarageError("folder", f"{file} is no file of a vehicle: name another --keep folder")
    return dict(kept)


def _keep(folder: Path, kept: dict[str, Any]) -> None:
    write(folder / _FILE, json.dumps(kept, indent=1, default=str).encode())


def _trusted(options: Options) -> list[tuple[str, bytes]]:
    """The roots of --trust, as anchors. Raises: GarageError."""
    anchors = []
    for file in options.trust or ():
        try:
            roots = trusted.read(file)
        except forms.FormError as error:
            raise GarageError("trust", f"--trust {error.detail}") from error
        anchors += [("V2G", root) for root in roots]
    return anchors
