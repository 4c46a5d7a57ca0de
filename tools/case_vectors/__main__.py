"""Write the test cases of a fixed vehicle as one JSON file, for use without this project.

    .venv/bin/python tools/case_vectors OUT.json

The form is that of Wycheproof: groups of tests, each with a result ("valid", "invalid" or
"acceptable"). Key, certificate and time of the vehicle are in the file: it is a public test
vehicle, and its key protects nothing. The same catalogue gives the same bytes. `schema.json`
describes the file; `check.py` opens its envelopes with `cryptography` alone.
"""

import argparse
import json
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from evcc import exi
from plugvault.cases import catalogue, files
from plugvault.cases.case import ACCEPT, EITHER, REFUSE, STAGES
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed

SEED = 15_118
AT = 1_767_225_600  # 2026-01-01
PCID = "PVTP0000000000001"
CASES = [case for case in catalogue.CASES if case.timing is None]  # a file has no time
RESULTS = {ACCEPT: "valid", REFUSE: "invalid", EITHER: "acceptable"}
HEADER = (
    "A vehicle with this key, these roots and this time gets each message as an answer.",
    "The vehicle's key is public, and protects nothing.",
)
SIGNED = (
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)
Json = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="the JSON file")
    out: Path = parser.parse_args().out
    out.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(CASES)} tests in {out}, {out.stat().st_size:,} bytes")


def vectors() -> Json:
    """The whole file."""
    vehicle = _vehicle()
    with tempfile.TemporaryDirectory(prefix="plugvault-") as made:
        folder = Path(made)
        manifest = files.make(folder, vehicle.certificate, CASES, SEED, AT)
        rows = enumerate(manifest["cases"], 1)
        groups = groupby(rows, lambda row: row[1]["id"].split("-")[0])
        return {
            "algorithm": "ISO 15118-2 CertificateInstallationRes",
            "schema": "schema.json",
            "numberOfTests": len(manifest["cases"]),
            "header": HEADER,
            "notes": STAGES,
            "at": AT,
            "vehicle": {
                "certificateChain": [der.hex() for der in vehicle.chain],
                "privateKey": f"{vehicle.private_key.private_numbers().private_value:064x}",
            },
            "trust": [
                {"kind": anchor["kind"], "certificate": _hex(folder, anchor)}
                for anchor in manifest["trust"]
            ],
            "testGroups": [
                {
                    "type": "CertificateInstallation",
                    "name": group,
                    "title": catalogue.GROUPS[group],
                    "tests": [_test(folder, number, row) for number, row in members],
                }
                for group, members in groups
            ],
        }


def _vehicle() -> Any:
    """The test vehicle's provisioning certificate, below the maker's root of the same seed."""
    seed = Seed(SEED)
    pki = CasePki(seed, AT)
    pki.begin("test vehicle")
    return pki.oem_sub2.issue(PCID, dc="OEM", key=seed.key("test vehicle"))


def _hex(folder: Path, entry: Json) -> str:
    return (folder / entry["file"]).read_bytes().hex()


def _test(folder: Path, number: int, row: Json) -> Json:
    message = _message(folder, row["message"])
    return {
        "tcId": number,
        "case": row["id"],
        "comment": row["title"],
        "result": RESULTS[row["must"]],
        "flags": [row["stage"]] if row["stage"] else [],
        "requirement": row["requirement"],
        "because": row["because"],
        "gain": row["gain"],
        "emaid": row["emaid"],
        "twin": _message(folder, row["twin"]),
        "before": [_message(folder, entry) for entry in row["before"]],
        "message": {**message, "parts": _parts(bytes.fromhex(message["exi"]))},
        "after": _message(folder, row["after"]),
    }


def _message(folder: Path, entry: Json) -> Json:
    return {"exi": _hex(folder, entry), "session": entry["session"]}


def _parts(message: bytes) -> Json | None:
    """The values of a message, unchanged; None for one that cannot be decoded, or for
    another message."""
    try:
        document = exi.decode(message)["V2G_Message"]
        body = document["Body"]["CertificateInstallationRes"]
    except (exi.ExiError, KeyError):
        return None
    return {
        "cpsChain": _chain(body["SAProvisioningCertificateChain"]),
        "contractChain": _chain(body["ContractSignatureCertChain"]),
        "encryptedKey": body["ContractSignatureEncryptedPrivateKey"]["value"].hex(),
        "dhPublicKey": body["DHpublickey"]["value"].hex(),
        "emaid": body["eMAID"]["value"],
        "signature": _signature(document["Header"].get("Signature"), body),
    }


def _chain(element: Json) -> list[str]:
    subs = element.get("SubCertificates", {}).get("Certificate", [])
    return [der.hex() for der in [element["Certificate"], *subs]]


def _signature(signature: Json | None, body: Json) -> Json | None:
    """SignedInfo as the CPS signs it, and the fragment of each element that has an Id."""
    if signature is None:
        return None
    info = signature["SignedInfo"]
    return {
        "value": signature["SignatureValue"]["value"].hex(),
        "signedInfo": exi.fragment("SignedInfo", info, "xmldsig").hex(),
        "canonicalization": info["CanonicalizationMethod"]["Algorithm"],
        "algorithm": info["SignatureMethod"]["Algorithm"],
        "references": [
            {
                "uri": reference.get("URI", ""),
                "transforms": [
                    step["Algorithm"]
                    for step in reference.get("Transforms", {}).get("Transform", [])
                ],
                "digestMethod": reference["DigestMethod"]["Algorithm"],
                "digest": reference["DigestValue"].hex(),
            }
            for reference in info["Reference"]
        ],
        "fragments": [
            {"id": body[name]["Id"], "name": name, "exi": exi.fragment(name, body[name]).hex()}
            for name in SIGNED
            if "Id" in body[name]
        ],
    }


if __name__ == "__main__":
    main()
