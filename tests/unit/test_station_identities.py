"""`plugvault station --identity FILE=LABEL`: certificates of other PKIs, keys in the token."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evcc.vault import VaultError
from fixtures.station_tls import STATION
from plugvault.cli.station.supply import own_identities
from plugvault.tls import StationTls
from plugvault.tokens import Token
from world import World, usage


def chain_file(folder: Path, *ders: bytes) -> Path:
    file = folder / "chain.pem"
    pem = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders]
    file.write_bytes(b"".join(pem))
    return file


def test_a_certificate_of_another_pki_is_served_with_its_key_in_the_token(
    today: World, cpo_token: Token, tmp_path: Path
) -> None:
    key = cpo_token.generate("own-leaf")
    leaf = today.cpo_sub2.issue(
        STATION,
        dc="CPO",
        public_key=key.point,
        key_usage=usage("digital_signature", "key_agreement"),
    )
    file = chain_file(tmp_path, *leaf.chain, today.v2g_root.der)
    (own,) = own_identities([f"{file}=own-leaf"], cpo_token)
    own.check(time.time())
    StationTls([own])  # its key signs a handshake
    with pytest.raises(VaultError, match="other-leaf"):
        own_identities([f"{file}=other-leaf"], cpo_token)


def test_a_wrong_identity_says_what_is_wanted(
    today: World, cpo_token: Token, tmp_path: Path
) -> None:
    alone = chain_file(tmp_path, today.v2g_root.der)
    for value, words in (
        (str(alone), "FILE=LABEL is wanted"),
        (f"{alone}=", "FILE=LABEL is wanted"),
        (f"{alone}=leaf", "a leaf, its sub-CAs and the root"),
        (f"{__file__}=leaf", "and no certificate"),
    ):
        with pytest.raises(ValueError, match=words):
            own_identities([value], cpo_token)
