"""The maker's end of the channel to its vehicles. The vehicle's end is `evcc.telematics`."""

from plugvault.telematics.maker import ContractStatus, Maker, TelematicsError, VehicleStatus

__all__ = ["ContractStatus", "Maker", "TelematicsError", "VehicleStatus"]
