"""The options of `plugvault vehicle`."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.cli.session_options import INSECURE, EventLines, Pcap, SandboxTrust
from plugvault.cli.tokens import Config

REGION = "EU"


class RuntimeName(StrEnum):
    """The interpreter. micropython: the best one on this machine; others by name, see `plugvault
    doctor`."""

    cpython = "cpython"
    micropython = "micropython"
    debian = "debian"
    wheel = "wheel"
    debian32 = "debian32"


class Security(StrEnum):
    """The values of "tls" in the module's configuration."""

    required = "required"
    optional = "optional"
    none = "none"


class Mode(StrEnum):
    """The kind of a charge after authorization."""

    ac = "AC"
    dc = "DC"


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    interface: Annotated[
        str, typer.Option(help="The network interface of the cable to the station.", metavar="IF")
    ]
    station: Annotated[
        str | None,
        typer.Option(help="Go to this station, without a search by SDP.", metavar="[ADDR]:PORT"),
    ] = None
    runtime: Annotated[
        RuntimeName | None,
        typer.Option(
            help="Interpreter of the vehicle's module. Default: MicroPython if there is one."
        ),
    ] = None
    sandbox: Annotated[
        str | None,
        typer.Option(
            help="Be a vehicle of this ecosystem's maker. PLUGVAULT_CLIENT_ID and"
            " PLUGVAULT_CLIENT_SECRET have the OEM's credentials; in open mode none are needed.",
            metavar="URL",
        ),
    ] = None
    sandbox_trust: SandboxTrust = None
    data: Annotated[
        Path | None,
        typer.Option(
            help="Be a vehicle of the ecosystem in this folder, the one of `sandbox --data`; a"
            " station of this computer may use it, too.",
            metavar="FOLDER",
            file_okay=False,
        ),
    ] = None
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep the vehicle, its token and contracts, in this folder for the next session.",
            metavar="FOLDER",
            file_okay=False,
        ),
    ] = None
    config: Config = None
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            help="Install these V2G roots (PEM or DER) in the vehicle, too: of a station's own"
            " PKI.",
            metavar="FILE",
        ),
    ] = None
    tls: Annotated[
        Security,
        typer.Option(help="required; optional: a station without will do; none: ask for none."),
    ] = Security.required
    ocsp: Annotated[
        bool, typer.Option("--ocsp", help="Refuse a station without a good OCSP answer.")
    ] = False
    insecure_contract: Annotated[
        bool,
        typer.Option(
            "--insecure-contract",
            help="Use a contract without TLS, too: anyone on the line reads and changes it.",
        ),
    ] = False
    install: Annotated[
        bool, typer.Option("--install", help="Ask for a contract even if there is one.")
    ] = False
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Ask for an update of the contract (CertificateUpdate) where the station offers"
            " it. A token's contract key only signs: the vehicle refuses what comes, and keeps"
            " its contract.",
        ),
    ] = False
    sessions: Annotated[
        int,
        typer.Option(
            help="Go through this many sessions, one after the other.", min=1, metavar="NUMBER"
        ),
    ] = 1
    emaid: Annotated[
        str | None, typer.Option(help="The contract to pay with.", metavar="EMAID")
    ] = None
    charge: Annotated[
        Mode | None,
        typer.Option(help="Charge for a moment after authorization, instead of a stop."),
    ] = None
    timeouts: Annotated[
        int,
        typer.Option(
            help="Multiply the vehicle's time-outs, for slow stations.",
            min=1,
            max=100,
            metavar="FACTOR",
        ),
    ] = 1
    pcap: Pcap = None
    as_json: EventLines = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show each check and the module's log.")
    ] = False

    @property
    def warning(self) -> str:
        """A warning about missing security; "" for none."""
        if self.insecure_contract:
            return INSECURE
        if self.tls != Security.required:
            return "Without TLS this vehicle uses no contract"
        return ""

    def network(self, trace: Path | None) -> dict[str, Any]:
        """The member "network" of the module's configuration. trace: the file for the module's
        trace. Raises typer.BadParameter."""
        settings: dict[str, Any] = {"interface": self.interface, "tls": self.tls.value}
        if self.ocsp:
            if self.tls != Security.required:
                raise typer.BadParameter("--ocsp needs --tls required", param_hint="--ocsp")
            settings["ocsp"] = True
        if self.station is not None:
            settings["address"], settings["port"] = _address(self.station)
        if trace is not None:
            settings["trace"] = str(trace)
        return settings


def _address(text: str) -> tuple[str, int]:
    """("fe80::1", 50000) of "[fe80::1]:50000"; a scope is that of --interface."""
    host, found, port = text.rpartition("]:")
    try:
        address = ipaddress.IPv6Address(host.removeprefix("[").partition("%")[0])
        if not (found and host.startswith("[") and 0 < int(port) < 65536):
            raise ValueError
    except ValueError:
        example = "an IPv6 address and a port: [fe80::1]:50000"
        raise typer.BadParameter(example, param_hint="--station") from None
    return str(address), int(port)
