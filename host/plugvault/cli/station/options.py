"""The options of `plugvault station`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from plugvault.cli.session_options import INSECURE, EventLines, Pcap, SandboxTrust
from plugvault.cli.tokens import Config
from plugvault.ecosystem.companies import EVSE
from plugvault.station import Offer
from plugvault.station.faults import Faults, checked_code, pair_of
from plugvault.station.limits import Limits

T = TypeVar("T")


class Security(StrEnum):
    """on: TLS alone; off: plain TCP alone; both: as the vehicle asks."""

    ON = "on"
    OFF = "off"
    BOTH = "both"


class Energy(StrEnum):
    """EnergyTransferMode of ISO 15118-2."""

    AC_1 = "AC_single_phase_core"
    AC_3 = "AC_three_phase_core"
    DC_CORE = "DC_core"
    DC_EXTENDED = "DC_extended"
    DC_COMBO = "DC_combo_core"
    DC_UNIQUE = "DC_unique"


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    interface: Annotated[
        str, typer.Option(help="The network interface of the cable to the vehicle.", metavar="IF")
    ]
    sandbox: Annotated[
        str | None,
        typer.Option(
            help="Fetch contracts from this ecosystem. PLUGVAULT_CLIENT_ID and"
            " PLUGVAULT_CLIENT_SECRET have the CPO's credentials; in open mode none are needed.",
            metavar="URL",
        ),
    ] = None
    trust: SandboxTrust = None
    data: Annotated[
        Path | None,
        typer.Option(
            help="Fetch contracts from the ecosystem of this folder, the one of `sandbox --data`.",
            metavar="FOLDER",
            file_okay=False,
        ),
    ] = None
    serve: Annotated[
        Path | None,
        typer.Option(
            help="Send this CertificateInstallationRes (EXI) to each vehicle that asks for a"
            " contract, with the session's id.",
            metavar="FILE",
        ),
    ] = None
    identity: Annotated[
        list[str] | None,
        typer.Option(
            help="A certificate of your own PKI: a file with leaf, sub-CAs and root, and the"
            " label of its key in the CPO's token (--config). A vehicle gets the path to a root"
            " that it names, else that of the first one.",
            metavar="FILE=LABEL",
        ),
    ] = None
    config: Config = None
    evse: Annotated[str, typer.Option(help="The EVSEID.", metavar="ID")] = EVSE
    energy: Annotated[
        list[Energy] | None,
        typer.Option(help="An energy transfer mode to offer. Default: DC and AC."),
    ] = None
    tls: Annotated[Security, typer.Option(help="on, off, or both: as a vehicle asks.")] = (
        Security.ON
    )
    insecure_contract: Annotated[
        bool,
        typer.Option(
            "--insecure-contract",
            help="Offer contracts without TLS, too: anyone on the line reads and changes them.",
        ),
    ] = False
    once: Annotated[bool, typer.Option("--once", help="End after the first session.")] = False
    clients: Annotated[
        int,
        typer.Option(help="Vehicles at once; further ones are turned away.", min=1, max=10_000),
    ] = Limits.max_clients
    timeouts: Annotated[
        float,
        typer.Option(
            help="Multiply the station's time-outs, for slow vehicles.",
            min=0.1,
            max=100,
            metavar="FACTOR",
        ),
    ] = 1.0
    pcap: Pcap = None
    as_json: EventLines = False
    delay: Annotated[
        list[str] | None,
        typer.Option(help="Send the response this much later.", metavar="MESSAGE=SECONDS"),
    ] = None
    drop: Annotated[
        list[str] | None,
        typer.Option(help="Drop the connection in place of the response.", metavar="MESSAGE"),
    ] = None
    answer: Annotated[
        list[str] | None,
        typer.Option(help="Send the response with this code.", metavar="MESSAGE=CODE"),
    ] = None
    bandwidth: Annotated[
        int | None, typer.Option(help="Send at most this fast.", min=100, metavar="BYTES/S")
    ] = None
    no_certificate_service: Annotated[
        bool, typer.Option("--no-certificate-service", help="Offer no contract installation.")
    ] = False
    certificate_update: Annotated[
        bool,
        typer.Option(
            "--certificate-update", help="Offer the update of a contract, too (CertificateUpdate)."
        ),
    ] = False
    large_bundle: Annotated[
        int,
        typer.Option(
            help="Fill a CertificateInstallationRes up to this size, as far as ISO 15118-2 has"
            " room: four sub-CA certificates of 800 bytes in the unsigned chain.",
            min=0,
            max=8000,
            metavar="BYTES",
        ),
    ] = 0

    @property
    def offer(self) -> Offer:
        """The station's services and supply by the options."""
        offer = Offer(
            self.evse,
            certificate_service=not self.no_certificate_service,
            certificate_update=self.certificate_update,
        )
        if not self.energy:
            return offer
        return replace(offer, energy_transfer=tuple(mode.value for mode in self.energy))

    @property
    def warning(self) -> str:
        """A warning about missing security; "" for none."""
        if self.insecure_contract and self.tls != Security.ON:
            return INSECURE
        if self.tls == Security.OFF:
            return "Without TLS: no payment by contract, and no contract"
        return ""

    @property
    def faults(self) -> Faults:
        """The faults of the options. Raises typer.BadParameter."""
        return Faults(
            delay=_pairs("--delay", self.delay, lambda _, text: _seconds(text)),
            drop=frozenset(_pairs("--drop", self.drop, lambda pair, _: pair)),
            answer=_pairs("--answer", self.answer, checked_code),
            bandwidth=self.bandwidth,
            large_bundle=self.large_bundle,
        )


def _pairs(
    option: str, values: Iterable[str] | None, read: Callable[[str, str], T]
) -> dict[str, T]:
    """{pair of messages: read(pair, text behind "=")}. Raises typer.BadParameter."""
    try:
        named = [value.partition("=")[::2] for value in values or ()]
        return {pair: read(pair, text) for name, text in named for pair in [pair_of(name)]}
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ValueError(f"{text!r} is no number of seconds from 0 to 3600")
    return seconds
