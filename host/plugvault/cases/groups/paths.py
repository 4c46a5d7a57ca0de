"""PA: the two certificate paths, that of the CPS and that of the contract."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from plugvault.cases.case import ACCEPT, EITHER, REFUSE, Case, Change
from plugvault.cases.groups.bits import flipped
from plugvault.cases.pki import CA_USAGE, DAY, Issued, UnsuitedError, usage
from plugvault.cases.scene import EMAID, Scene

_SOON = 30 * DAY  # from the time of the cases: not valid by a real clock while the cases are used
_UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
_PATH = "RFC 5280, 6.1"


class _Path:
    """One of the two paths: how to make leaves and sub-CAs of it, and a message with them."""

    def __init__(self, stage: str, dc: str, ca_dc: str, leaf_name: str) -> None:
        self.stage, self.dc, self.ca_dc, self.leaf_name = stage, dc, ca_dc, leaf_name
        self.is_cps = stage == "cps-path"

    def root(self, scene: Scene) -> Issued:
        return scene.pki.v2g_root if self.is_cps else scene.pki.mo_root

    def sub1(self, scene: Scene) -> Issued:
        return scene.pki.cps_sub1 if self.is_cps else scene.pki.mo_sub1

    def sub2(self, scene: Scene) -> Issued:
        return scene.pki.cps_sub2 if self.is_cps else scene.pki.mo_sub2

    def leaf(self, scene: Scene, issuer: Issued, **changes: Any) -> Issued:
        if self.is_cps:
            return issuer.issue("CPS Leaf", **{"dc": "CPS", **changes})
        return scene.contract_under(issuer, **changes)

    def message(self, leaf: Issued) -> dict[str, Any]:
        return {"cps" if self.is_cps else "contract": leaf}

    def chain(self, ders: list[bytes]) -> dict[str, Any]:
        return {"cps_chain" if self.is_cps else "contract_chain": ders}

    def change(self, make: Callable[["_Path", Scene], Issued]) -> Change:
        return lambda scene: self.message(make(self, scene))


_CPS = _Path("cps-path", "CPS", "V2G", "CPS Leaf")
_CONTRACT = _Path("contract-path", "MO", "MO", EMAID)


def _under(**changes: Any) -> Callable[[_Path, Scene], Issued]:
    """A leaf with these changes."""
    return lambda path, scene: path.leaf(scene, path.sub2(scene), **_dated(scene, changes))


def _under_sub(**changes: Any) -> Callable[[_Path, Scene], Issued]:
    """A good leaf under a lower sub-CA with these changes."""

    def make(path: _Path, scene: Scene) -> Issued:
        standard = {"dc": path.ca_dc, "ca": True, "path_length": 0}
        sub = path.sub1(scene).issue("Sub2 changed", **{**standard, **_dated(scene, changes)})
        return path.leaf(scene, sub)

    return make


def _dated(scene: Scene, changes: dict[str, Any]) -> dict[str, Any]:
    """The dates, which are given as seconds from the time of the case, as Unix seconds."""
    dates = ("not_before", "not_after")
    return {
        name: scene.pki.now + value if name in dates else value for name, value in changes.items()
    }


def _old_upper_sub(path: _Path, scene: Scene) -> Issued:
    old = path.root(scene).sub("Sub1 old", 1, dc=path.ca_dc, not_after=scene.pki.now - 1)
    return path.leaf(scene, old.sub("Sub2 below", dc=path.ca_dc))


def _too_deep(path: _Path, scene: Scene) -> Issued:
    short = path.root(scene).sub("Sub1 short", 0, dc=path.ca_dc)
    return path.leaf(scene, short.sub("Sub2 deep", None, dc=path.ca_dc))


def _three_subs(path: _Path, scene: Scene) -> Issued:
    sub = path.root(scene).sub("Sub 1 of 3", 3, dc=path.ca_dc)
    sub = sub.sub("Sub 2 of 3", 2, dc=path.ca_dc)
    return path.leaf(scene, sub.sub("Sub 3 of 3", 1, dc=path.ca_dc))


def _leaf_as_ca(path: _Path, scene: Scene) -> Issued:
    owner = path.leaf(scene, path.sub1(scene))
    return path.leaf(scene, owner)


def _twin_of_the_root(path: _Path, scene: Scene) -> Issued:
    good = path.root(scene)
    twin = scene.pki.root(good.common_name, subject=good.certificate.subject)
    return path.leaf(scene, twin.sub("Sub2 of the twin", dc=path.ca_dc))


def _twin_of_the_sub(path: _Path, scene: Scene) -> dict[str, Any]:
    """A leaf of a sub-CA with the good one's name, beside the good sub-CAs."""
    good = path.sub2(scene)
    evil = scene.pki.root("Evil Root", path.ca_dc)
    twin = evil.sub(good.common_name, subject=good.certificate.subject)
    leaf = path.leaf(scene, twin)
    return {**path.message(leaf), **path.chain([leaf.der, *good.chain])}


def _own_root(path: _Path, scene: Scene) -> dict[str, Any]:
    """A path to a root of the attacker's, which the message carries."""
    root = scene.pki.root("Evil Root", path.ca_dc)
    leaf = path.leaf(scene, root.sub("Evil Sub2", dc=path.ca_dc))
    return {**path.message(leaf), **path.chain([*leaf.chain, root.der])}


def _without_subs(path: _Path, scene: Scene) -> dict[str, Any]:
    leaf = path.leaf(scene, path.sub2(scene))
    return {**path.message(leaf), **path.chain([leaf.der])}


def _without_lower_sub(path: _Path, scene: Scene) -> dict[str, Any]:
    leaf = path.leaf(scene, path.sub2(scene))
    return {**path.message(leaf), **path.chain([leaf.der, path.sub1(scene).der])}


def _subs_turned_round(path: _Path, scene: Scene) -> dict[str, Any]:
    leaf = path.leaf(scene, path.sub2(scene))
    der, *subs = leaf.chain
    if len(subs) < 2:
        raise UnsuitedError("this path of the given PKI has one sub-CA, none to turn round")
    return {**path.message(leaf), **path.chain([der, *reversed(subs)])}


def _damaged(path: _Path, scene: Scene, at: int) -> dict[str, Any]:
    """The leaf with one bit flipped; at: counted in bytes from its end, or from its start."""
    leaf = path.leaf(scene, path.sub2(scene))
    bit = (len(leaf.der) + at) * 8 + 7 if at < 0 else at * 8 + 7
    return {**path.message(leaf), **path.chain([flipped(leaf.der, bit), *leaf.chain[1:]])}


def _serial_changed(path: _Path, scene: Scene) -> dict[str, Any]:
    leaf = path.leaf(scene, path.sub2(scene))
    serial = leaf.certificate.serial_number.to_bytes(8, "big")
    changed = leaf.der.replace(serial, serial[:-1] + bytes([serial[-1] ^ 1]), 1)
    return {**path.message(leaf), **path.chain([changed, *leaf.chain[1:]])}


def _on_p384(path: _Path, scene: Scene) -> dict[str, Any]:
    key = ec.derive_private_key(scene.pki.seed.scalar(f"{scene.case} p384"), ec.SECP384R1())
    leaf = path.leaf(scene, path.sub2(scene), public_key=key.public_key())
    if path.is_cps:  # signed by another key: the path is refused before the signature
        return {"cps_chain": leaf.chain}
    return {"contract": leaf, "scalar": bytes(31) + b"\1"}


_NEW_ROOT_KEY = (
    "An operator's root may get a new key under its old name: a vehicle that goes by the key does "
    "not have that root, and the CPS vouches for it (PA-090)."
)
_EXPIRY = "A certificate holds from its first to its last second."
_CA = "Only a CA certificate, with CA flag and keyCertSign, issues certificates."
_ANCHOR = "Trust comes from the roots in the vehicle, never from the message."
_ANYONE = "An attacker makes a path and is taken for the {}."
_OLD_KEY = "Keys of the past, no longer guarded, are good for ever."
_MINT = "The owner of one certificate makes others and is taken for any {}."

# number, title, because, gain, the path's change
_LEAVES: tuple[tuple[int, str, str, str, Any], ...] = (
    (1, "an expired leaf", _EXPIRY, _OLD_KEY, _under(not_after=-1)),
    (2, "a leaf that is not valid yet", _EXPIRY, _OLD_KEY, _under(not_before=_SOON)),
    (3, "an expired lower sub-CA", _EXPIRY, _OLD_KEY, _under_sub(not_after=-1)),
    (4, "an expired upper sub-CA", _EXPIRY, _OLD_KEY, _old_upper_sub),
    (
        5,
        "a sub-CA without the CA flag",
        _CA,
        _MINT,
        _under_sub(ca=False, path_length=None, key_usage=CA_USAGE),
    ),
    (
        6,
        "a sub-CA without BasicConstraints",
        _CA,
        _MINT,
        _under_sub(ca=None, path_length=None, key_usage=CA_USAGE),
    ),
    (
        7,
        "a sub-CA that may not sign certificates",
        _CA,
        _MINT,
        _under_sub(key_usage=usage("digital_signature")),
    ),
    (8, "a CA below a CA that allows none", _CA, _MINT, _too_deep),
    (9, "a leaf that issued the leaf", _CA, _MINT, _leaf_as_ca),
    (
        10,
        "an unknown critical extension",
        "Critical means: not to be ignored.",
        "A limit of the certificate is overlooked.",
        _under(extensions=[(_UNKNOWN, True)]),
    ),
    (
        11,
        "the same in a sub-CA",
        "Critical means: not to be ignored.",
        "A limit of the certificate is overlooked.",
        _under_sub(extensions=[(_UNKNOWN, True)]),
    ),
    (12, "a leaf with the CA flag", "A leaf is no CA.", _MINT, _under(ca=True)),
    (
        13,
        "a leaf whose key may not sign",
        "keyUsage without digitalSignature forbids the use as a signer.",
        "A key made for something else signs.",
        _under(key_usage=usage("key_agreement")),
    ),
    (14, "three sub-CAs", "At most two stand between root and leaf.", _MINT, _three_subs),
    (15, "a root of the same name with another key", _ANCHOR, _ANYONE, _twin_of_the_root),
)
_MESSAGES: tuple[tuple[int, str, str, str, Any], ...] = (
    (20, "a path to a root that the message carries", _ANCHOR, _ANYONE, _own_root),
    (21, "a leaf of a sub-CA's namesake", "Names are not keys.", _ANYONE, _twin_of_the_sub),
    (22, "no sub-CAs", "The path does not reach a root.", _ANYONE, _without_subs),
    (23, "no lower sub-CA", "The path does not reach a root.", _ANYONE, _without_lower_sub),
    (
        24,
        "a leaf whose signature has one bit changed",
        "The issuer's signature fails.",
        _ANYONE,
        lambda path, scene: _damaged(path, scene, -1),
    ),
    (25, "a leaf with another serial number", "The signature fails.", _ANYONE, _serial_changed),
    (26, "a leaf with a key on P-384", "The curve is P-256.", "", _on_p384),
)


def _both(path: _Path, first: int, role: str) -> list[Case]:
    """The refusals that are the same for both paths."""

    def case(number: int, title: str, because: str, gain: str, change: Change) -> Case:
        what = "CPS" if path.is_cps else "contract"
        return Case(
            f"PA-{first + number:03}",
            f"{what}: {title}",
            REFUSE,
            "V2G2-656" if number == 14 else _PATH,
            because,
            gain.format(role),
            path.stage,
            change=change,
        )

    cases = [
        case(number, title, because, gain, path.change(make))
        for number, title, because, gain, make in _LEAVES
    ]
    if not path.is_cps:
        cases[-1] = replace(
            cases[-1],
            must=EITHER,
            requirement="house",
            because=_NEW_ROOT_KEY,
            gain="",
            stage="",
        )
    for number, title, because, gain, change in _MESSAGES:
        if path.is_cps or number != 20:  # the root of an operator need not be known
            cases.append(case(number, title, because, gain, partial(change, path)))
    return cases


_ROLE = "Each role has its own certificates; DC tells the CPS apart."
_ROLE_GAIN = "The owner of any certificate below a V2G root makes contracts for every vehicle."


def _role(number: int, title: str, change: Change) -> Case:
    return Case(
        f"PA-{number:03}",
        title,
        REFUSE,
        "ISO 15118-2, Annex F",
        _ROLE,
        _ROLE_GAIN,
        "cps-path",
        change=change,
    )


def _foreign(scene: Scene) -> dict[str, Any]:
    root = scene.pki.root("Other MO Root", "MO")
    return {"contract": scene.contract_under(root.sub("Other MO Sub2", dc="MO"))}


CASES = [
    *_both(_CPS, 0, "CPS"),
    _role(40, "CPS: the leaf of a charge point operator", lambda scene: {"cps": scene.pki.cpo}),
    _role(41, "CPS: a leaf without DC", lambda scene: {"cps": scene.cps(dc=None)}),
    _role(42, "CPS: a leaf with DC=MO", lambda scene: {"cps": scene.cps(dc="MO")}),
    _role(43, "CPS: a leaf with DC=cps", lambda scene: {"cps": scene.cps(dc="cps")}),
    Case(
        "PA-044",
        "CPS: a path to the operator's root",
        REFUSE,
        "ISO 15118-2, Annex F",
        "The CPS stands below a V2G root; the vehicle trusts an MO root for contracts alone.",
        "A mobility operator makes contracts of any other operator.",
        "cps-path",
        change=lambda scene: {"cps": scene.pki.mo_sub2.issue("CPS Leaf", dc="CPS")},
    ),
    Case(
        "PA-045",
        "CPS: a path to the vehicle maker's root",
        REFUSE,
        "ISO 15118-2, Annex F",
        "The CPS stands below a V2G root.",
        "A CA of the maker makes contracts of any operator.",
        "cps-path",
        change=lambda scene: {"cps": scene.pki.oem_sub2.issue("CPS Leaf", dc="CPS")},
    ),
    Case(
        "PA-046",
        "CPS: the sub-CAs turned round",
        EITHER,
        "ISO 15118-2, SubCertificates",
        "The path is the same; RFC 5280 finds it, a reader that needs the order does not.",
        change=lambda scene: _subs_turned_round(_CPS, scene),
    ),
    Case(
        "PA-047",
        "CPS: an unknown extension that is not critical",
        ACCEPT,
        "RFC 5280, 4.2",
        "It is to be ignored.",
        change=_CPS.change(_under(extensions=[(_UNKNOWN, False)])),
    ),
    *_both(_CONTRACT, 50, "operator"),
    Case(
        "PA-090",
        "contract: an operator whose root the vehicle does not have",
        EITHER,
        "house",
        "The CPS vouches for the operator with its signature; a vehicle need not hold every root.",
        change=_foreign,
    ),
    Case(
        "PA-091",
        "contract: the leaf of a CPS",
        REFUSE,
        "ISO 15118-2, Annex F",
        "DC=CPS is no contract.",
        "",
        "contract-path",
        change=lambda scene: {"contract": scene.contract(dc="CPS")},
    ),
    Case(
        "PA-092",
        "contract: a leaf without DC",
        ACCEPT,
        "ISO 15118-2, Annex F",
        "Contract certificates in the field have none.",
        change=lambda scene: {"contract": scene.contract(dc=None)},
    ),
    Case(
        "PA-093",
        "contract: the sub-CAs turned round",
        EITHER,
        "ISO 15118-2, SubCertificates",
        "The path is the same; RFC 5280 finds it, a reader that needs the order does not.",
        change=lambda scene: _subs_turned_round(_CONTRACT, scene),
    ),
    Case(
        "PA-094",
        "contract: an unknown extension that is not critical",
        ACCEPT,
        "RFC 5280, 4.2",
        "It is to be ignored.",
        change=_CONTRACT.change(_under(extensions=[(_UNKNOWN, False)])),
    ),
    Case(
        "PA-095",
        "contract: valid for ten more years",
        ACCEPT,
        "ISO 15118-2, Annex F",
        "A validity is the operator's to choose.",
        change=_CONTRACT.change(_under(not_after=3650 * DAY)),
    ),
]
