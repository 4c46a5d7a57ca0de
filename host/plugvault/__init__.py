"""The ecosystem around the EV module: every role of Plug & Charge, each with its own keys.

The roles are a maker, a mobility operator, the pools, the certificate provisioning service, a
charge point operator and a charging station. `evcc`, beside it in `firmware/`, is the car.
"""

__version__ = "0.1.0"
