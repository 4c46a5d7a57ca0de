"""A station's supply from its operator: certificate, roots of contracts, contracts."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evcc import chain, exi
from evcc.iso15118_2 import messages
from evcc.x509 import CertificateError
from plugvault.cli.session_options import client_of
from plugvault.cli.station.options import Options
from plugvault.contract.iso15118_2.response import with_session_id
from plugvault.ecosystem import Ecosystem
from plugvault.ecosystem.authorities import find_or_make
from plugvault.ecosystem.companies import CHARGE_POINTS
from plugvault.ecosystem.folder import Folder
from plugvault.pki import forms, path, trusted
from plugvault.roles.client import Credentials, OpcpError
from plugvault.roles.cpo import ChargePointOperator, StationEntry
from plugvault.station.connection import FetchContract
from plugvault.temporary import temporary_folder
from plugvault.tls import Identity, Staple
from plugvault.tokens import Token, TokenKey
from plugvault.tokens.selection import choose_roles

LARGEST = 8192  # bytes of EXI that are sent from a file
_OCSP = {"Content-Type": "application/ocsp-request"}


@dataclass(frozen=True)
class Supply:
    """A station's supply. identity: of the ecosystem; renew: its next certificate, for the same
    key. own: identities of another PKI. fetch: CertificateInstallationReq ->
    CertificateInstallationRes. anchors: MO and V2G roots, DER. v2g_root: the PEM file that
    vehicles must trust."""

    identity: Identity
    renew: Callable[[], Identity]
    own: list[Identity]
    fetch: FetchContract
    anchors: list[bytes]
    v2g_root: Path


def find(stack: ExitStack, options: Options) -> Supply:
    """The supply that the options select, until `stack` ends. Raises EvccError, OSError,
    ValueError."""
    if options.sandbox and options.data:
        raise ValueError("--sandbox or --data, not both")
    folder = options.data or _temporary(stack)
    message = None if options.serve is None else _response(options.serve)
    if options.sandbox is not None:
        supplied = _from_sandbox(stack, options, options.sandbox, folder)
    else:
        supplied = _from_folder(stack, options, folder)
    if message is None:
        return supplied
    return replace(supplied, fetch=lambda _: message)


def _temporary(stack: ExitStack) -> Path:
    return stack.enter_context(temporary_folder())


def _response(file: Path) -> bytes:
    """The message of a file. Raises OSError, ValueError."""
    with file.open("rb") as stream:
        message = stream.read(LARGEST + 1)
    try:
        _, name, _, _ = messages.opened(exi.decode(with_session_id(message, bytes(8))))
    except Exception as error:
        raise ValueError(f"{file} is no CertificateInstallationRes in EXI: {error}") from error
    if name != "CertificateInstallationRes" or len(message) > LARGEST:
        raise ValueError(f"{file} has {name}, {len(message)} bytes")
    return message


def _from_folder(stack: ExitStack, options: Options, folder: Path) -> Supply:
    """The ecosystem of a folder, made there when it is missing, runs in this process."""
    world = stack.enter_context(Ecosystem(folder, role_tokens=choose_roles(options.config)))
    leaf, cpo = world.station, world.cpo
    made = _Identities(stack, cpo, leaf.key, options.evse, [world.v2g_root])
    root = folder / "certificates" / "v2g-root.pem"
    return Supply(
        made.of(leaf.certificate, leaf.subs),
        made.renewed,
        own_identities(options.identity or (), leaf.key.token),
        cpo.fetch_contract,
        cpo.roots(),
        root,
    )


def _from_sandbox(stack: ExitStack, options: Options, url: str, folder: Path) -> Supply:
    """A running ecosystem certifies a new key of this station, in a token of its own."""
    client, credentials = client_of(url, options.trust, "--trust")
    cpo = ChargePointOperator(stack.enter_context(client))
    _announce(cpo, options.evse, credentials)
    store = Folder(folder, role_tokens=choose_roles(options.config))
    tokens = store.tokens(stack, "cpo")
    key = find_or_make(
        lambda: tokens["cpo"].key("cpo-leaf"), lambda: tokens["cpo"].generate("cpo-leaf")
    )
    leaf, subs = cpo.enrol(_signing_request(options.evse, key))
    roots = client.roots_by_kind()
    v2g = roots.get("V2G", [])
    root = _root_of(leaf, subs, v2g)
    store.store_certificate("v2g-root", root)
    made = _Identities(stack, cpo, key, options.evse, v2g)
    return Supply(
        made.of(leaf, subs),
        made.renewed,
        own_identities(options.identity or (), tokens["cpo"]),
        cpo.fetch_contract,
        [*roots.get("MO", []), *v2g],
        folder / "certificates" / "v2g-root.pem",
    )


def _announce(cpo: ChargePointOperator, evse: str, credentials: Credentials | None) -> None:
    """Put the station into the ecosystem's registry. Raises OpcpError."""
    try:
        cpo.announce(StationEntry(evse, (evse,)))
    except OpcpError as error:
        if error.status != 401 or credentials is not None:
            raise
        advice = "set PLUGVAULT_CLIENT_ID and PLUGVAULT_CLIENT_SECRET to the CPO's credentials"
        raise OpcpError("refused", f"{error.detail}; {advice}", error.status) from error


class _Identities:
    """The identities of one key, one after the other. roots: V2G roots, DER."""

    def __init__(
        self,
        stack: ExitStack,
        cpo: ChargePointOperator,
        key: TokenKey,
        evse: str,
        roots: Sequence[bytes],
    ) -> None:
        self._stack, self._cpo, self._key, self._evse = stack, cpo, key, evse
        self._roots = roots

    def of(self, leaf: bytes, subs: Sequence[bytes]) -> Identity:
        """The identity of a leaf, with OCSP answers of the ecosystem's responder. Raises
        OpcpError."""
        ask = partial(self._cpo.client.content, "POST", "/ocsp", headers=_OCSP)
        staple = Staple(leaf, subs[0], lambda request: ask(content=request))
        root = _root_of(leaf, list(subs), list(self._roots))
        sign = self._key.sign_digest
        return Identity(leaf, tuple(subs), root, sign, self._stack.enter_context(staple))

    def renewed(self) -> Identity:
        """The identity with the next certificate. Raises OpcpError."""
        return self.of(*self._cpo.renew(_signing_request(self._evse, self._key)))


def own_identities(values: Iterable[str], token: Token) -> list[Identity]:
    """The identities of --identity FILE=LABEL. Raises ValueError, VaultError."""
    identities = []
    for value in values:
        file, _, label = value.rpartition("=")
        if not file or not label:
            raise ValueError(f"--identity {value}: FILE=LABEL is wanted")
        try:
            ders = trusted.read(Path(file))
        except forms.FormError as error:
            raise ValueError(f"--identity {error.detail}") from error
        if len(ders) < 2:
            raise ValueError(f"{file}: a leaf, its sub-CAs and the root are wanted, in this order")
        identities.append(
            Identity(ders[0], tuple(ders[1:-1]), ders[-1], token.key(label).sign_digest)
        )
    return identities


def _signing_request(evse: str, key: TokenKey) -> bytes:
    named = ((NameOID.ORGANIZATION_NAME, CHARGE_POINTS), (NameOID.COMMON_NAME, evse))
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in named])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _root_of(leaf: bytes, subs: list[bytes], roots: list[bytes]) -> bytes:
    """The V2G root above a new certificate. Raises OpcpError."""
    try:
        return path.validate(leaf, subs, roots, chain.CPO, time.time()).der
    except CertificateError as error:
        text = f"no V2G root of the pool is above the new certificate: {error}"
        raise OpcpError("answer", text) from error
