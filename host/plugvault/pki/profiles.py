"""The certificates an ecosystem issues, one row each [ISO 15118-2 Annex F].

A profile says what a certificate is for. The issuer decides on the subject and on the validity
(the profile has the usual lifetime). The same rows serve both editions: curve and size follow from
the issuer's key (`plugvault.pki.schemes`).
"""

from dataclasses import dataclass

DAY = 86_400
YEAR = 365 * DAY

SIGN = "digital_signature"
COMMIT = "content_commitment"
ENCIPHER = "key_encipherment"
AGREE = "key_agreement"
CA_USAGE = frozenset({"key_cert_sign", "crl_sign"})


@dataclass(frozen=True)
class Profile:
    """The content of one kind of certificate.

    `usage`: names of `cryptography.x509.KeyUsage`. `domain`: the DC of the subject, by which the
    vehicle distinguishes roles. `path_length`: None for no limit. `lifetime`: seconds, by
    default. `ocsp`: the certificate carries the address of the OCSP responder.
    """

    usage: frozenset[str]
    domain: str
    lifetime: int
    ca: bool = False
    path_length: int | None = None
    ocsp: bool = False


def _authorities(prefix: str, domain: str, root: int, sub1: int, sub2: int) -> dict[str, Profile]:
    return {
        f"{prefix}-root": Profile(CA_USAGE, domain, root, ca=True),
        f"{prefix}-sub1": Profile(CA_USAGE, domain, sub1, ca=True, path_length=1, ocsp=True),
        f"{prefix}-sub2": Profile(CA_USAGE, domain, sub2, ca=True, path_length=0, ocsp=True),
    }


PROFILES: dict[str, Profile] = {
    **_authorities("v2g", "V2G", 40 * YEAR, 4 * YEAR, 2 * YEAR),
    **_authorities("oem", "OEM", 40 * YEAR, 20 * YEAR, 10 * YEAR),
    **_authorities("mo", "MO", 40 * YEAR, 20 * YEAR, 4 * YEAR),
    "provisioning": Profile(frozenset({SIGN, AGREE}), "OEM", 4 * YEAR, ocsp=True),
    "contract": Profile(frozenset({SIGN, COMMIT, ENCIPHER, AGREE}), "MO", YEAR, ocsp=True),
    "cps": Profile(frozenset({SIGN}), "CPS", 90 * DAY, ocsp=True),
    "cpo": Profile(frozenset({SIGN, AGREE}), "CPO", 90 * DAY, ocsp=True),
    "vehicle": Profile(frozenset({SIGN, AGREE}), "OEM", 4 * YEAR, ocsp=True),  # -20: mutual TLS
    "server": Profile(frozenset({SIGN}), "TLS", 90 * DAY),  # no role in Plug & Charge has this DC
}
