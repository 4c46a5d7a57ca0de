"""V2G_SECC_Msg_Performance_Time of ISO 15118-2:2014, 8.7.3 table 109: the station's time from a
request to its response. The vehicle's time-out is half a second later (CurrentDemand: 225 ms).
"""

_USUAL, _LONG = 1500, 4500

# message pair -> milliseconds
PERFORMANCE_MS = {
    "supportedAppProtocol": _USUAL,
    "SessionSetup": _USUAL,
    "ServiceDiscovery": _USUAL,
    "ServiceDetail": _LONG,
    "PaymentServiceSelection": _USUAL,
    "CertificateInstallation": _LONG,
    "CertificateUpdate": _LONG,
    "PaymentDetails": _LONG,
    "Authorization": _USUAL,
    "ChargeParameterDiscovery": _USUAL,
    "PowerDelivery": _LONG,
    "SessionStop": _USUAL,
    "ChargingStatus": _USUAL,
    "MeteringReceipt": _USUAL,
    "CableCheck": _USUAL,
    "PreCharge": _USUAL,
    "CurrentDemand": 25,
    "WeldingDetection": _USUAL,
}
