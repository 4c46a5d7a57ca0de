"""Test cases as files: one folder with the messages, the trust anchors and a manifest.

    manifest.json        the vehicle, the time, and for each case what the module must do
    trust/V2G.der …      the roots that the vehicle trusts, and no others
    station.pem          a station's key and certificates, for `campaign --module station:`
    messages/ID.exi      the case's message
    messages/ID.1.exi …  messages that the module gets before
    messages/ID.twin.exi a good message, accepted before all of these
    messages/ID.after.exi  one more, accepted afterwards

The same vehicle, seed and time give the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evcc.errors import EvccError
from evcc.vault import VaultError
from plugvault import file_lock
from plugvault.cases import catalogue
from plugvault.cases.case import Built, Case
from plugvault.cases.difference import difference
from plugvault.cases.pki import CasePki, Given, NoKeyError, PkiError, UnsuitedError, point
from plugvault.cases.scene import AFTER, EMAID, TWIN, Scene
from plugvault.cases.seed import Seed
from plugvault.pki import forms

FORMAT, VERSION = "plugvault-cases", 1


class CasesError(EvccError):
    """Cases that cannot be made. The text says what to do."""

    REASONS = ("vehicle", "folder", "pki")


def vehicle_of(chain: bytes) -> x509.Certificate:
    """The provisioning certificate: the first one of a chain, in any form of `forms`.

    Raises CasesError("vehicle").
    """
    try:
        certificate = x509.load_der_x509_certificate(forms.certificates(chain)[0])
    except (EvccError, ValueError) as error:
        raise CasesError("vehicle", f"no certificate in the vehicle's file: {error}") from error
    _provisioning(certificate)
    return certificate


def _provisioning(vehicle: x509.Certificate) -> bytes:
    """The provisioning key as a point of 65 bytes. Raises CasesError("vehicle") for another
    curve."""
    key = vehicle.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise CasesError(
            "vehicle", "the first certificate's key is not on P-256: the leaf comes first"
        )
    return point(key)


def make(
    folder: Path,
    vehicle: x509.Certificate,
    cases: Sequence[Case],
    seed: int,
    at: int,
    given: Given | None = None,
) -> dict[str, Any]:
    """Write the cases into `folder`, which is made, and return the manifest.

    vehicle: the provisioning certificate, on P-256. seed: 0 to 2^128 - 1. at: the time of the
    cases, Unix seconds. given: a PKI in place of the seed's; a case for which it lacks a private
    key or a sub-CA is left out, with the reason.

    Raises CasesError: "folder" for one with other files in it or in use, "pki" for a given PKI
    that is incomplete or not valid at that time.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "manifest.json").exists():
        raise CasesError("folder", f"{folder} holds other files; choose a new folder")
    provisioning = _provisioning(vehicle)
    try:
        pki = CasePki(Seed(seed), at, given)
    except PkiError as error:
        raise CasesError("pki", str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock.locked(folder, timeout=0):
            return _write(folder, vehicle, provisioning, cases, pki, seed, at)
    except TimeoutError:
        text = f"another command makes cases in {folder}; choose a new folder"
        raise CasesError("folder", text) from None


def _write(
    folder: Path,
    vehicle: x509.Certificate,
    provisioning: bytes,
    cases: Sequence[Case],
    pki: CasePki,
    seed: int,
    at: int,
) -> dict[str, Any]:
    for name in ("trust", "messages"):
        (folder / name).mkdir(exist_ok=True)
    rows, left_out = _write_cases(folder, cases, pki, provisioning)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "seed": seed,
        "at": at,
        "vehicle": {
            "subject": vehicle.subject.rfc4514_string(),
            "sha256": hashlib.sha256(provisioning).hexdigest(),
        },
        "station": _write_station(folder, pki),
        "trust": [_write_anchor(folder, kind, der) for kind, der in pki.anchors],
        "cases": rows,
        "left_out": left_out,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def described(case: Case) -> dict[str, Any]:
    """The texts of a case as JSON, without its messages."""
    return {
        "id": case.id,
        "title": case.title,
        "must": case.must,
        "requirement": case.requirement,
        "because": case.because,
        "gain": case.gain,
        "stage": case.stage,
        "editions": list(case.editions),
        "timing": None if case.timing is None else asdict(case.timing),
    }


def _write_anchor(folder: Path, kind: str, der: bytes) -> dict[str, str]:
    name = f"trust/{kind}.der"
    (folder / name).write_bytes(der)
    return {"kind": kind, "file": name}


def _write_station(folder: Path, pki: CasePki) -> str | None:
    """None where the PKI has no station whose key can be written."""
    try:
        key = pki.cpo.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except (NoKeyError, VaultError):
        return None
    certificates = [x509.load_der_x509_certificate(der) for der in pki.cpo.chain]
    chain = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
    file = folder / "station.pem"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(b"".join([key, *chain]))
    return file.name


def _write_cases(
    folder: Path, cases: Sequence[Case], pki: CasePki, vehicle: bytes
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The rows of the cases; the cause of each that cannot be made of this PKI."""
    rows, left_out = [], []
    for case in cases:
        try:
            rows.append(_write_case(folder, case, pki, vehicle))
        except UnsuitedError as error:
            left_out.append({"id": case.id, "why": str(error)})
    return rows, left_out


def _write_case(folder: Path, case: Case, pki: CasePki, vehicle: bytes) -> dict[str, Any]:
    slot = catalogue.SLOTS[case.id]
    scene = Scene(pki, vehicle, case.id, slot)
    built = case.build(scene)
    good = {}
    for name, age in (("twin", TWIN), ("after", AFTER)):
        other = Scene(pki, vehicle, f"{case.id} {name}", slot, age)
        file = f"{case.id}.{name}"
        good[name] = _write_message(folder, file, other.response(), other.session)
    return {
        **described(case),
        "changed": _changed(built),
        "emaid": EMAID if case.announced else None,
        "twin": good["twin"],
        "before": [
            {
                **_write_message(folder, f"{case.id}.{number}", message, scene.session),
                "must": case.before_must,
            }
            for number, message in enumerate(built.before, 1)
        ],
        "message": _write_message(
            folder, case.id, built.message, scene.session if case.asked else None
        ),
        "after": good["after"],
    }


def _changed(built: Built) -> list[dict[str, str]]:
    if built.unchanged is None:
        return []
    return [change._asdict() for change in difference(built.unchanged, built.message)]


def _write_message(
    folder: Path, name: str, message: bytes, session: bytes | None
) -> dict[str, Any]:
    path = f"messages/{name}.exi"
    (folder / path).write_bytes(message)
    return {
        "file": path,
        "bytes": len(message),
        "sha256": hashlib.sha256(message).hexdigest(),
        "session": None if session is None else session.hex(),
    }
