"""The response codes of ISO 15118-2: the meaning of each, and the responses it may stand in.

ISO 15118-2:2014, 8.4.3 to 8.4.5 and the schema's responseCodeType, in its order. Both ends are
held to this table; the car on a board does not need it.
"""

REQUESTS = (
    "SessionSetup",
    "ServiceDiscovery",
    "ServiceDetail",
    "PaymentServiceSelection",
    "PaymentDetails",
    "Authorization",
    "ChargeParameterDiscovery",
    "PowerDelivery",
    "SessionStop",
    "CertificateUpdate",
    "CertificateInstallation",
    "ChargingStatus",
    "MeteringReceipt",
    "CableCheck",
    "PreCharge",
    "CurrentDemand",
    "WeldingDetection",
)
_SESSION = REQUESTS[1:]
_SETUP = ("SessionSetup",)
_SELECTION = ("PaymentServiceSelection",)
_DETAILS = ("PaymentDetails",)
_PARAMETERS = ("ChargeParameterDiscovery",)
_POWER = ("PowerDelivery",)
_CONTRACT = ("CertificateInstallation", "CertificateUpdate")
_CERTIFIED = _CONTRACT + _DETAILS

# code: (meaning, the message pairs whose response may carry it)
RESPONSE_CODES = {
    "OK": ("the request is granted", _SESSION),
    "OK_NewSessionEstablished": ("a new session begins", _SETUP),
    "OK_OldSessionJoined": ("the paused session goes on", _SETUP),
    "OK_CertificateExpiresSoon": ("granted; the contract certificate ends soon", _DETAILS),
    "FAILED": ("refused for a reason without a code of its own", REQUESTS),
    "FAILED_SequenceError": ("the request is not due in this state", REQUESTS),
    "FAILED_ServiceIDInvalid": ("the station has no such service", ("ServiceDetail",)),
    "FAILED_UnknownSession": ("the session id is not this session's", _SESSION),
    "FAILED_ServiceSelectionInvalid": ("a selected service is not offered", _SELECTION),
    "FAILED_PaymentSelectionInvalid": ("the payment option is not offered", _SELECTION),
    "FAILED_CertificateExpired": ("a certificate is not valid at this time", _CERTIFIED),
    "FAILED_SignatureError": ("the signature is wrong", _CERTIFIED + ("Authorization",)),
    "FAILED_NoCertificateAvailable": ("there is no contract for this vehicle", _CERTIFIED),
    "FAILED_CertChainError": ("the certificate path leads to no known root", _CERTIFIED),
    "FAILED_ChallengeInvalid": ("the challenge is not this session's", ("Authorization",)),
    "FAILED_ContractCanceled": ("the operator has ended the contract", _CERTIFIED),
    "FAILED_WrongChargeParameter": ("the parameters do not fit the energy transfer", _PARAMETERS),
    "FAILED_PowerDeliveryNotApplied": ("the station cannot change the power now", _POWER),
    "FAILED_TariffSelectionInvalid": ("the schedule was not offered", _POWER),
    "FAILED_ChargingProfileInvalid": ("the profile exceeds the schedule", _POWER),
    "FAILED_MeteringSignatureNotValid": (
        "the receipt is not over this meter reading or not signed by the contract",
        ("MeteringReceipt",),
    ),
    "FAILED_NoChargeServiceSelected": ("charging is not among the services", _SELECTION),
    "FAILED_WrongEnergyTransferMode": ("the energy transfer mode is not offered", _PARAMETERS),
    "FAILED_ContactorError": ("the contactor does not move", _POWER),
    "FAILED_CertificateNotAllowedAtThisEVSE": (
        "this station does not take the contract",
        _DETAILS,
    ),
    "FAILED_CertificateRevoked": ("a certificate is revoked", _CERTIFIED),
}


def allowed(pair: str) -> tuple:
    """The response codes that the response of a message pair may carry. pair: of `REQUESTS`."""
    return tuple(code for code, (_, pairs) in RESPONSE_CODES.items() if pair in pairs)
