"""Cases of a PKI that is there: its roots and CAs in place of the seed's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evcc import exi
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki, Given, Issued, Pki
from plugvault.cases.scene import body_of
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.ecosystem.authorities import LABELS, Authorities
from plugvault.ecosystem.folder import Folder

NOW = 1_790_000_000
DAY = 86_400
KINDS = ("V2G", "MO")
OWN = CasePki(Seed(77), NOW)  # a PKI of someone's own
ALL = {
    "v2g-root": OWN.v2g_root,
    "prov-sub1": OWN.cps_sub1,
    "prov-sub2": OWN.cps_sub2,
    "mo-root": OWN.mo_root,
    "mo-sub1": OWN.mo_sub1,
    "mo-sub2": OWN.mo_sub2,
}
VEHICLE = OWN.oem_sub2.issue("PVTP0000000000001", dc="OEM").certificate


def given(without_keys: tuple[str, ...] = (), **more: Issued) -> Given:
    """The PKI, without some private keys; more: other certificates by name, with `_` for `-`."""
    issued = {**ALL, **{name.replace("_", "-"): other for name, other in more.items()}}
    return {
        name: (one.certificate, None if name in without_keys else one.key)
        for name, one in issued.items()
    }


def made(folder: Path, pki: Given, *patterns: str) -> dict[str, Any]:
    return files.make(folder, VEHICLE, catalogue.select(*patterns), 1, NOW, pki)


def chains(folder: Path, case: str) -> tuple[list[bytes], list[bytes]]:
    """The chains of the CPS and of the contract in a case's message."""
    body = body_of(exi.decode((folder / f"messages/{case}.exi").read_bytes()))
    elements = (body["SAProvisioningCertificateChain"], body["ContractSignatureCertChain"])
    cps, contract = (
        [one["Certificate"], *one.get("SubCertificates", {}).get("Certificate", [])]
        for one in elements
    )
    return cps, contract


def test_cases_stand_below_the_given_roots(tmp_path: Path) -> None:
    manifest = made(tmp_path, given())
    assert manifest["left_out"] == []
    assert len(manifest["cases"]) == len(catalogue.CASES)
    trusted = {row["kind"]: (tmp_path / row["file"]).read_bytes() for row in manifest["trust"]}
    assert trusted["V2G"] == OWN.v2g_root.der
    assert trusted["MO"] == OWN.mo_root.der
    assert trusted["OEM"] != OWN.oem_root.der  # none was given
    cps, contract = chains(tmp_path, "EN-001")
    assert cps[1:] == [OWN.cps_sub2.der, OWN.cps_sub1.der]
    assert contract[1:] == [OWN.mo_sub2.der, OWN.mo_sub1.der]


def test_a_case_beyond_the_given_keys_is_left_out_with_the_reason(tmp_path: Path) -> None:
    manifest = made(tmp_path, given(("v2g-root", "mo-root")), "EN-001", "PA-*")
    left_out = {row["id"]: row["why"] for row in manifest["left_out"]}
    assert left_out["PA-004"] == "the private key of 'V2G Root' is not here"
    assert set(left_out) == {f"PA-{number:03}" for number in (4, 8, 14, 40, 54, 58, 64)}
    assert len(manifest["cases"]) == 1 + len(catalogue.select("PA-*")) - len(left_out)


def test_a_cps_leaf_stands_in_for_a_ca_without_its_key(tmp_path: Path) -> None:
    cas = ("v2g-root", "prov-sub1", "prov-sub2")
    manifest = made(tmp_path, given(cas, cps_leaf=OWN.cps), "EN-001", "PA-041")
    assert chains(tmp_path, "EN-001")[0] == OWN.cps.chain
    assert [row["id"] for row in manifest["left_out"]] == ["PA-041"]


def test_a_branch_may_have_one_sub_ca(tmp_path: Path) -> None:
    only = OWN.v2g_root.sub("Prov only", path_length=0)
    pki = {name: row for name, row in given(prov_sub1=only).items() if name != "prov-sub2"}
    made(tmp_path, pki, "EN-001", "PA-00*")
    assert chains(tmp_path, "EN-001")[0][1:] == [only.der]


def test_a_namesake_has_the_whole_subject_of_the_given_ca(tmp_path: Path) -> None:
    class Operator(Pki):
        organisation = "Another operator"

    v2g, mo = (Operator(Seed(79), NOW).root(f"Given {kind} Root", dc=kind) for kind in KINDS)
    cps_sub, mo_sub = v2g.sub("Given Prov Sub1", 1), mo.sub("Given MO Sub1", 1, dc="MO")
    pki = given(
        v2g_root=v2g,
        mo_root=mo,
        prov_sub1=cps_sub,
        mo_sub1=mo_sub,
        prov_sub2=cps_sub.sub("Given Prov Sub2"),
        mo_sub2=mo_sub.sub("Given MO Sub2", dc="MO"),
    )
    cases = {"PA-015": (0, v2g.certificate), "PA-065": (1, mo.certificate)}
    cases |= {"PA-021": (0, pki["prov-sub2"][0]), "PA-071": (1, pki["mo-sub2"][0])}
    made(tmp_path, pki, *cases)
    for case, (path, good) in cases.items():
        chain = [x509.load_der_x509_certificate(der) for der in chains(tmp_path, case)[path]]
        last = chain[0] if case in ("PA-021", "PA-071") else chain[-1]
        assert last.issuer == good.subject, case
        with pytest.raises(InvalidSignature):
            last.verify_directly_issued_by(good)


@pytest.mark.parametrize("root_key", [True, False])
def test_a_case_with_two_sub_cas_is_left_out_where_the_pki_has_one(
    root_key: bool, tmp_path: Path
) -> None:
    short = {
        "prov_sub1": OWN.v2g_root.sub("Prov only", path_length=0),
        "mo_sub1": OWN.mo_root.sub("MO only", path_length=0, dc="MO"),
    }
    without = () if root_key else ("v2g-root", "mo-root")
    pki = {k: row for k, row in given(without, **short).items() if not k.endswith("sub2")}
    manifest = made(tmp_path, pki)
    left_out = {row["id"]: row["why"] for row in manifest["left_out"]}
    assert {ident for ident, why in left_out.items() if "one sub-CA" in why} == {
        "PA-046",
        "PA-093",
    }
    assert len(manifest["cases"]) + len(left_out) == len(catalogue.CASES)


def test_a_given_root_may_have_no_common_name(tmp_path: Path) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "No name")])
    root = Pki(Seed(80), NOW).root("", subject=name)
    made(tmp_path, {"v2g-root": (root.certificate, root.key)}, "EN-001", "PA-*")
    chain = [x509.load_der_x509_certificate(der) for der in chains(tmp_path, "PA-015")[0]]
    assert chain[-1].issuer == name


def test_a_certificate_names_the_identifier_that_its_given_issuer_has(tmp_path: Path) -> None:
    """OpenSSL finds no path otherwise; EcoG's CAs have identifiers of 20 bytes."""
    given_id, sub = b"\x5a" * 20, OWN.cps_sub2
    builder = (
        x509.CertificateBuilder(OWN.cps_sub1.certificate.subject, sub.certificate.subject)
        .public_key(sub.private_key.public_key())
        .serial_number(7)
        .not_valid_before(sub.certificate.not_valid_before_utc)
        .not_valid_after(sub.certificate.not_valid_after_utc)
        .add_extension(x509.SubjectKeyIdentifier(given_id), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    certificate = builder.sign(OWN.cps_sub1.private_key, hashes.SHA256())
    made(tmp_path, {**given(), "prov-sub2": (certificate, sub.key)}, "EN-001")
    leaf = x509.load_der_x509_certificate(chains(tmp_path, "EN-001")[0][0])
    named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == given_id


OTHER = CasePki(Seed(78), NOW)
P384 = OWN.v2g_root.issue(
    "Prov Sub1", ca=True, public_key=ec.derive_private_key(5, ec.SECP384R1()).public_key()
)
WRONG: dict[str, tuple[Given, str]] = {
    "no private key at all": (given(tuple(ALL)), "the CPS cannot sign"),
    "no key of the operator": (given(("mo-root", "mo-sub1", "mo-sub2")), "operator cannot sign"),
    "a sub-CA of another root": (given(prov_sub1=OTHER.cps_sub1), "is not issued by V2G Root"),
    "a sub-CA as the root": (given(mo_root=OWN.mo_sub1), "is not issued by itself"),
    "another curve": (given(prov_sub1=P384), "not on P-256"),
    "another certificate's key": (
        {**given(), "mo-sub2": (OWN.mo_sub2.certificate, OWN.mo_sub1.key)},
        "is not that of its certificate",
    ),
    "an expired CA": (
        given(prov_sub1=OWN.v2g_root.sub("Prov Sub1", 1, not_after=NOW - 1)),
        "choose a time",
    ),
    "a CA of the future": (
        given(mo_sub1=OWN.mo_root.sub("MO Sub1", 1, dc="MO", not_before=NOW + 1)),
        "choose a time",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_pki_that_is_not_whole_is_refused_with_the_cause(name: str, tmp_path: Path) -> None:
    pki, words = WRONG[name]
    with pytest.raises(files.CasesError, match=words) as caught:
        made(tmp_path, pki, "EN-001")
    assert caught.value.reason == "pki"
    assert not (tmp_path / "manifest.json").exists()


def command(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_the_folder_of_an_ecosystem_is_such_a_pki(
    softhsm: Path, short_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its keys sign in their tokens, in the CLI's own process."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        folder = Folder(short_dir / "eco", softhsm)
        tokens = folder.tokens(stack, *LABELS)
        authorities = Authorities(folder, tokens, NOW, "http://127.0.0.1/ocsp")
        root = authorities.v2g.certificate.public_bytes(Encoding.DER)
    vehicle = short_dir / "vehicle.pem"
    vehicle.write_bytes(VEHICLE.public_bytes(Encoding.PEM))
    out = short_dir / "cases"
    arguments = ("cases", "make", "--vehicle", vehicle, "--out", out, "--only", "EN-00[123]")
    status = command(*arguments, "--at", NOW + DAY, "--pki", short_dir / "eco", "--json")
    said = capsys.readouterr()
    assert status == 0, said.err
    assert (out / "trust/V2G.der").read_bytes() == root
    assert [row["id"] for row in json.loads(said.out)["cases"]] == ["EN-001", "EN-002", "EN-003"]
    cps, _ = chains(out, "EN-001")
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in cps[:2])
    leaf.verify_directly_issued_by(issuer)
    assert command(*arguments, "--pki", short_dir) == 2
    assert "certificates/*.pem" in capsys.readouterr().err
    program = short_dir / "module"
    program.write_text(f"#!/bin/sh\ncmp $1/V2G.der {out}/trust/V2G.der >&2\n")
    program.chmod(0o755)
    module = ("--module", f"exec:{program} {{trust}} {{message}}", "--only", "EN-001")
    campaign = ("campaign", "--vehicle", vehicle, *module)
    assert command(*campaign, "--pki", short_dir / "eco") == 0, capsys.readouterr().err
    assert command(*campaign) == 1  # the roots of the seed
