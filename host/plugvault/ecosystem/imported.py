"""A test PKI of other programs in the folder of an ecosystem, which then uses it.

    report = store(folder, layout)       # once, before the ecosystem's first start
    members(stack, folder)               # {slot: certificate and key}, for other uses of the PKI

A branch is taken over when its CAs are complete, with their private keys: `Authorities` then finds
keys and certificates where it would have made its own. A root without its private key is trusted
by the root pool. Vehicles and contracts are stored beside them, their keys in the OEM's and the
MO's token under their own names.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from evcc.errors import EvccError
from plugvault.ecosystem.authorities import LABELS
from plugvault.ecosystem.folder import Folder
from plugvault.pki import path
from plugvault.pki.layout import Layout, Member
from plugvault.tokens import Token, TokenKey, VaultError

# branch: its CAs, its leaf, its token, the branch above
_BRANCHES: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "v2g": (("v2g-root",), "", "v2g", ""),
    "prov": (("prov-sub1", "prov-sub2"), "cps-leaf", "v2g", "v2g"),
    "cpo": (("cpo-sub1", "cpo-sub2"), "cpo-leaf", "v2g", "v2g"),
    "oem": (("oem-root", "oem-sub1", "oem-sub2"), "", "oem", ""),
    "mo": (("mo-root", "mo-sub1", "mo-sub2"), "", "mo", ""),
}
_LEAF_TOKENS = {"cps-leaf": "cps", "cpo-leaf": "cpo"}
_TRUSTED = re.compile("trusted-(v2g|oem|mo)-[0-9a-f]{8}")


class ImportedError(EvccError):
    """A PKI that cannot be taken over. The text says what to do."""

    REASONS = ("exists", "empty")


@dataclass
class Imported:
    """The result of an import. used: slots that the ecosystem works with. trusted: slots of roots
    that are only trusted. leaves: names of vehicles and contracts with a key. left: {slot or name:
    the reason why it is not used}."""

    used: list[str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def store(folder: Folder, layout: Layout) -> Imported:
    """Write the certificates into a folder and the keys into its tokens.

    Raises ImportedError("exists": the folder has other certificates for these places | "empty"),
    VaultError. After an error nothing is written, or the same import completes what is there.
    """
    report = _planned(layout)
    if not (report.used or report.trusted or report.leaves):
        raise ImportedError("empty", "no root and no private key of a PKI is among the files")
    chosen = {slot: layout.slots[slot] for slot in report.used}
    chosen |= {f"vehicle-{name}": member for name, member in _keyed(layout.vehicles)}
    chosen |= {f"contract-{name}": member for name, member in _keyed(layout.contracts)}
    _check_free(folder, chosen)
    with ExitStack() as stack:
        tokens = folder.tokens(stack, *LABELS)
        for slot, member in chosen.items():
            token, label, usage = _place(slot)
            _bring(tokens[token], label, member, usage)
    for slot, member in chosen.items():
        folder.store_certificate(slot, member.der)
    for slot in report.trusted:
        der = layout.slots[slot].der
        kind = slot.removesuffix("-root")
        folder.store_certificate(f"trusted-{kind}-{path.fingerprint(der)[:8]}", der)
    return report


def members(stack: ExitStack, folder: Folder) -> dict[str, Member]:
    """The certificates that a folder has, with their keys in its tokens until `stack` ends."""
    tokens = folder.tokens(stack, *LABELS)
    return dict(_members(folder, tokens))


def _members(folder: Folder, tokens: dict[str, Token]) -> Iterator[tuple[str, Member]]:
    names = [slot for branch in _BRANCHES.values() for slot in (*branch[0], branch[1]) if slot]
    for slot in [*names, *folder.names("vehicle-*"), *folder.names("contract-*")]:
        der = folder.certificate(slot)
        if der is None:
            continue
        token, label, _ = _place(slot)
        try:
            key = tokens[token].key(label)
        except VaultError as error:
            if error.reason != "not-found":
                raise
            key = None
        yield slot, Member(der, key, f"{slot}.pem")


def trusted(folder: Folder) -> list[tuple[str, bytes]]:
    """(kind, DER) of the roots that are only trusted. kind: "V2G", "OEM" or "MO"."""
    roots = []
    for name in folder.names("trusted-*"):
        matched, der = _TRUSTED.fullmatch(name), folder.certificate(name)
        if matched and der:
            roots.append((matched[1].upper(), der))
    return roots


def _planned(layout: Layout) -> Imported:
    report, complete = Imported(), set[str]()
    for branch, (cas, leaf, _, above) in _BRANCHES.items():
        reason = _obstacle(layout, cas, above, complete)
        if reason is None:
            complete.add(branch)
            report.used += cas
            if leaf and _has_key(layout, leaf):
                report.used.append(leaf)
            continue
        for slot in (*cas, leaf):
            if slot in layout.slots:
                report.left[slot] = reason
    for slot in ("v2g-root", "oem-root", "mo-root"):
        if slot in report.left:
            report.left[slot] += "; it is trusted all the same"
            report.trusted.append(slot)
    for kind, leaves in (("vehicle", layout.vehicles), ("contract", layout.contracts)):
        report.leaves += [f"{kind}-{name}" for name, _ in _keyed(leaves)]
        report.left |= {
            f"{kind}-{name}": "no private key" for name, m in leaves.items() if m.key is None
        }
    return report


def _obstacle(layout: Layout, cas: tuple[str, ...], above: str, complete: set[str]) -> str | None:
    """Why a branch cannot be taken over; None where it can."""
    if above and above not in complete:
        return f"the {above.upper()} root above it has no private key here"
    lacking = [slot for slot in cas if slot not in layout.slots]
    keyless = [slot for slot in cas if slot not in lacking and not _has_key(layout, slot)]
    if lacking:
        return f"its branch has no {' and no '.join(lacking)}"
    return f"its branch has no private key of {' and '.join(keyless)}" if keyless else None


def _has_key(layout: Layout, slot: str) -> bool:
    """Whether a slot has a private key on P-256, the curve of this edition."""
    return slot in layout.slots and _is_p256(layout.slots[slot])


def _is_p256(member: Member) -> bool:
    key = member.key
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"


def _keyed(leaves: dict[str, Member]) -> list[tuple[str, Member]]:
    return [(_safe(name), member) for name, member in leaves.items() if _is_p256(member)]


def _safe(name: str) -> str:
    """A leaf's name as part of a file's and a key's name."""
    return re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:40]


def _place(slot: str) -> tuple[str, str, tuple[str, ...]]:
    """(token, label, usage) of a slot's key."""
    if slot.startswith("vehicle-"):
        return "oem", slot, ("sign", "derive")
    if slot.startswith("contract-"):
        return "mo", slot, ("sign",)
    if slot in _LEAF_TOKENS:
        return _LEAF_TOKENS[slot], slot, ("sign",)
    branch = next(row for row in _BRANCHES.values() if slot in row[0])
    return branch[2], slot.split("-")[1] if slot.endswith("-root") else slot, ("sign",)


def _check_free(folder: Folder, chosen: dict[str, Member]) -> None:
    for slot, member in chosen.items():
        existing = folder.certificate(slot)
        if existing is not None and existing != member.der:
            raise ImportedError(
                "exists",
                f"{folder.directory} has another certificate for {slot} already; import into a"
                " new folder",
            )


def _bring(token: Token, label: str, member: Member, usage: tuple[str, ...]) -> None:
    """Write a key into its token, unless an import that was interrupted has."""
    try:
        existing: TokenKey = token.key(label)
    except VaultError as error:
        if error.reason != "not-found":
            raise
        if not isinstance(member.key, ec.EllipticCurvePrivateKey):
            raise ImportedError("empty", f"{label} has no private key") from None
        token.bring(label, member.key, usage)
        return
    if existing.point != path.read_any(member.der).point:
        raise ImportedError("exists", f"the token has another key called {label} already")
