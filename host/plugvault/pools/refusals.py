"""The causes for which CCP gives no contract out, and the remedy of each.

A caller gets the same refusal for every cause, so that no answer tells what exists. The cause is
for the operator of the ecosystem: in the event "ccp.installation.refused", in the log, and in
`plugvault ecosystem explain-request`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """One cause. `meaning`: what is wrong; `remedy`: which company must do what."""

    meaning: str
    remedy: str


# CCP answers these with 400 and a reason, before it asks any pool about the vehicle.
REQUEST_CAUSES = {
    "bad-message": Cause(
        "The bytes are no CertificateInstallationReq of ISO 15118-2 in EXI.",
        "`plugvault inspect FILE` says what they are.",
    ),
    "bad-certificate": Cause(
        "The provisioning certificate in the request cannot be read, or its CN is no PCID.",
        "The maker gives the vehicle a certificate of ISO 15118-2: P-256, at most 800 bytes.",
    ),
    "bad-signature": Cause(
        "The key of the certificate in the request has not signed the request.",
        "The vehicle signs with its provisioning key, over the request as an EXI fragment.",
    ),
}

CAUSES = {
    "unknown-vehicle": Cause(
        "PCP has no vehicle with this PCID.",
        "The maker registers the vehicle: PUT /v1/oem/provCerts.",
    ),
    "other-certificate": Cause(
        "The vehicle's provisioning certificate is not the one in PCP.",
        "The maker registers the certificate that is in the vehicle: PUT /v1/oem/provCerts.",
    ),
    "vehicle-not-valid": Cause(
        "The vehicle's provisioning certificate is not valid.",
        "The maker registers a valid certificate, or an administrator adds its root to RCP.",
    ),
    "no-contract": Cause(
        "CCP has no contract for this vehicle.",
        "An operator makes one for its PCID: PUT /v1/cps/contractData/signed.",
    ),
    "no-default": Cause(
        "The vehicle has contracts, and none of them is the default.",
        "The maker chooses one: POST /v1/ccp/signedContractData/{pcid}/{emaid}/default.",
    ),
    "contract-not-yet-valid": Cause(
        "The validity of the contract certificate has not begun.",
        "The vehicle asks again when it has begun, or the operator makes an earlier one.",
    ),
    "contract-expired": Cause(
        "The contract certificate has expired.",
        "The operator renews the contract: PUT /v1/cps/contractData/signed.",
    ),
    "contract-revoked": Cause(
        "The contract, its CA or the CPS that signed it is revoked.",
        "The operator makes a new contract: PUT /v1/cps/contractData/signed.",
    ),
    "root-missing": Cause(
        "RCP no longer has the V2G root above the CPS that signed the contract.",
        "An administrator adds the root, or the operator has the contract signed again.",
    ),
    "root-not-listed": Cause(
        "The vehicle does not list the V2G root above the CPS that signed the contract.",
        "The operator has the contract signed under a root that the vehicle lists"
        " (cpsV2GRootCertificateFingerprint), or the maker installs the root.",
    ),
    "root-ambiguous": Cause(
        "The vehicle lists a name that may be any of several V2G roots in RCP.",
        "The vehicle writes the whole name of its root, as RFC 4514 has it.",
    ),
    "other-root": Cause(
        "The contract was signed under another V2G root than the caller asks for.",
        "The caller asks for the root that lookupContract shows, or for none.",
    ),
    "other-vehicle": Cause(
        "The contract is for another vehicle.",
        "The caller asks with the PCID of the contract's vehicle.",
    ),
}
